//! The shorthands for operators on streams and steps.

/// A shorthand for an operator, as a method of [`Stream`](crate::Stream), [`Steps`](crate::Steps) and [`Inline`](crate::Inline): they cannot drift
/// apart.
///
/// `shorthand! { /// docs  fn map[Out, F](f: F) -> Mapper<T, Out, F> where { .. } => Mapper::new(f) }`; `T` is the item.
macro_rules! shorthand {
    (
        $(#[$doc:meta])*
        fn $name:ident[$($generic:ident),*]($($arg:ident: $arg_type:ty),*) -> $stage:ty where { $($bounds:tt)* } => $make:expr
    ) => {
        impl<T: Send + 'static> $crate::Stream<T> {
            $(#[$doc])*
            #[track_caller]
            pub fn $name<$($generic),*>(
                self $(, $arg: $arg_type)*
            ) -> $crate::Stream<<$stage as $crate::Processor>::Out> where $($bounds)* {
                self.through_once($make)
            }
        }

        impl<T: Send + 'static, C: $crate::stream::Chain<Out = T>> $crate::stream::Steps<C> {
            $(#[$doc])*
            #[track_caller]
            pub fn $name<$($generic),*>(
                self $(, $arg: $arg_type)*
            ) -> $crate::stream::Steps<C::With<$stage>> where $($bounds)* {
                self.with($make)
            }
        }

        impl<T, O, C> $crate::Inline<O, C>
        where
            T: Send + 'static,
            O: $crate::Origin,
            C: $crate::stream::Chain<In = O::Item, Out = T>,
        {
            $(#[$doc])*
            #[track_caller]
            pub fn $name<$($generic),*>(
                self $(, $arg: $arg_type)*
            ) -> $crate::Inline<O, C::With<$stage>> where $($bounds)* {
                self.with($make)
            }
        }
    };
}

pub(crate) use shorthand;
