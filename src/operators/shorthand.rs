//! Shorthands: operators as methods of streams and steps.

/// Defines a shorthand for an operator, as a method of [`Stream`](crate::Stream), [`Steps`](crate::Steps) and
/// [`Inline`](crate::Inline), so that the three cannot drift apart.
///
/// It is written as the method of `Stream<T>`: its return type is the stage and, after `=>`, the stream that the stage
/// makes; its body builds the stage. The methods of the other two add the stage as a step.
///
/// ```text
/// shorthand! {
///     /// Documentation.
///     pub fn map<Out, F>(self, f: F) -> Mapper<T, Out, F> => Stream<Out>
///     where
///         Out: Send + 'static,
///         F: Fn(T) -> Out + Send + Sync + 'static,
///     {
///         Mapper::new(f)
///     }
/// }
/// ```
///
/// The first of a group of methods has the heading of the group before it: `group { /// # Batches }`, on three lines.
macro_rules! shorthand {
    (
        $(group { $(#[$group:meta])+ })?
        $(#[$doc:meta])*
        pub fn $name:ident $(<$($generic:ident),*>)? (self $(, $arg:ident: $arg_type:ty)* $(,)?)
            -> $stage:ty => Stream<$out:ty>
        $($rest:tt)+
    ) => {
        $crate::operators::shorthand! {
            @bounds
            [[$($(#[$group])+)?] [$(#[$doc])*] $name [$($($generic),*)?] [$($arg: $arg_type),*] [$stage] [$out]]
            []
            $($rest)+
        }
    };

    // Sets aside the `where` clause, token by token, until only the body is left: one pattern cannot tell them apart.
    (@bounds [$($method:tt)*] [$($bounds:tt)*] { $make:expr }) => {
        $crate::operators::shorthand! { @methods $($method)* [$($bounds)*] $make }
    };
    (@bounds [$($method:tt)*] [$($bounds:tt)*] $bound:tt $($rest:tt)+) => {
        $crate::operators::shorthand! { @bounds [$($method)*] [$($bounds)* $bound] $($rest)+ }
    };

    (
        @methods
        [$(#[$group:meta])*] [$(#[$doc:meta])*]
        $name:ident [$($generic:ident),*] [$($arg:ident: $arg_type:ty),*] [$stage:ty] [$out:ty]
        [$($bounds:tt)*] $make:expr
    ) => {
        $(#[$group])*
        impl<T: Send + 'static> $crate::Stream<T> {
            $(#[$doc])*
            #[track_caller]
            pub fn $name<$($generic),*>(self $(, $arg: $arg_type)*) -> $crate::Stream<$out> $($bounds)* {
                self.through_once($make)
            }
        }

        impl<T: Send + 'static, C: $crate::stream::Chain<Out = T>> $crate::stream::Steps<C> {
            $(#[$doc])*
            #[track_caller]
            pub fn $name<$($generic),*>(
                self $(, $arg: $arg_type)*
            ) -> $crate::stream::Steps<C::With<$stage>> $($bounds)* {
                self.with($make)
            }
        }

        impl<T, O, C> $crate::Inline<O, C>
        where
            T: Send + 'static,
            O: $crate::steps::Origin,
            C: $crate::stream::Chain<In = O::Item, Out = T>,
        {
            $(#[$doc])*
            #[track_caller]
            pub fn $name<$($generic),*>(
                self $(, $arg: $arg_type)*
            ) -> $crate::Inline<O, C::With<$stage>> $($bounds)* {
                self.with($make)
            }
        }
    };
}

pub(crate) use shorthand;
