//! The options that every processor has: its name and its output's capacity.

use std::borrow::Cow;

/// Held by every processor that runs an operator.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) name: Cow<'static, str>,
    pub(crate) capacity: Option<usize>,
}

impl Options {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), capacity: None }
    }
}

/// The setters for [`Options`], in an `impl` block of a type with a field `options`.
macro_rules! common_options {
    () => {
        /// Sets the name that the stage has in reports and errors, and that its threads carry.
        ///
        /// # Panics
        /// If `name` contains a NUL byte.
        #[track_caller]
        pub fn with_name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.options.name = $crate::pipeline::name::checked(name);
            self
        }

        /// Sets how many items may wait in the output for a slow consumer. Defaults to the pipeline's
        /// [capacity](crate::PipelineBuilder::capacity); with 0 every item is handed over directly.
        pub fn with_capacity(mut self, items: usize) -> Self {
            self.options.capacity = Some(items);
            self
        }
    };
}

/// `Processor` and `Stage` for a type with a field `options` and a method `operator(&self)` that makes its operator.
///
/// The generics and bounds are given once: `stage! { [T, P] Filter<T, P> where { .. } T => T, FilterOp<T, P> }`.
macro_rules! stage {
    ([$($generic:ident),*] $type:ty where { $($bounds:tt)* } $in:ty => $out:ty, $op:ty) => {
        impl<$($generic),*> $crate::Processor for $type where $($bounds)* {
            type In = $in;
            type Out = $out;

            #[track_caller]
            fn process(
                &self,
                cancel: &$crate::CancelToken,
                input: $crate::Stream<Self::In>,
            ) -> $crate::Stream<Self::Out> {
                $crate::stream::start::launch(self, cancel, input)
            }

            fn name(&self) -> &str {
                &self.options.name
            }
        }

        impl<$($generic),*> $crate::Stage for $type where $($bounds)* {
            type Op = $op;

            fn start(&self) -> Self::Op {
                self.operator()
            }

            fn capacity(&self) -> Option<usize> {
                self.options.capacity
            }
        }
    };
}

/// `Debug` for a type that holds closures: its name, and the fields that are named.
macro_rules! opaque_debug {
    ([$($generic:ident),*] $type:ty $(: $($field:ident),+)?) => {
        impl<$($generic),*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let name = stringify!($type);
                f.debug_struct(name.split('<').next().unwrap_or(name))
                    $($(.field(stringify!($field), &self.$field))+)?
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use {common_options, opaque_debug, stage};
