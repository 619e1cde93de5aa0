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

/// Checks the number of workers of a pool, or of outputs of a stage, all of which are made at once.
///
/// # Panics
/// If `count` is 0 or more than 65,536. Beyond that it is a mistake, and the process might be killed for want of memory,
/// without a word about the argument.
#[track_caller]
pub(crate) fn check_threads(name: &str, count: usize) {
    assert!(count > 0, "`{name}` must be at least 1");
    assert!(count <= 65_536, "`{name}` must be at most 65,536, not {count}");
}

/// The setters that many processors have, in an `impl` block.
///
/// Without arguments it writes `with_name` and `with_capacity` for a field `options`. Otherwise each line names a setter and
/// its field. A setter that has no default documentation, or needs another one, is given its own:
///
/// ```text
/// common_options! {
///     with_name: options.name,
///     /// Sets how many batches may wait in the output for a slow consumer. Defaults to 16.
///     with_capacity(batches): options.capacity,
/// }
/// ```
macro_rules! common_options {
    () => {
        $crate::operators::options::common_options! { with_name: options.name, with_capacity: options.capacity }
    };

    (@rest) => {};
    (@rest $($rest:tt)+) => {
        $crate::operators::options::common_options! { $($rest)+ }
    };

    (with_name: $($field:ident).+ $(, $($rest:tt)*)?) => {
        $crate::operators::options::common_options! {
            /// Sets the name that the stage has in reports and errors, and that its threads carry.
            with_name: $($field).+ $(, $($rest)*)?
        }
    };
    ($(#[$doc:meta])+ with_name: $($field:ident).+ $(, $($rest:tt)*)?) => {
        $(#[$doc])+
        ///
        /// # Panics
        /// If `name` contains a NUL byte.
        #[track_caller]
        pub fn with_name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
            self.$($field).+ = $crate::pipeline::name::checked(name);
            self
        }

        $($crate::operators::options::common_options! { @rest $($rest)* })?
    };

    (with_capacity: $($field:ident).+ $(, $($rest:tt)*)?) => {
        $crate::operators::options::common_options! {
            /// Sets how many items may wait in the output for a slow consumer. Defaults to the pipeline's
            /// [capacity](crate::PipelineBuilder::capacity); with 0 every item is handed over directly.
            with_capacity(items): $($field).+ $(, $($rest)*)?
        }
    };
    ($(#[$doc:meta])+ $setter:ident($room:ident): $($field:ident).+ $(, $($rest:tt)*)?) => {
        $(#[$doc])+
        pub fn $setter(mut self, $room: usize) -> Self {
            self.$($field).+ = Some($room);
            self
        }

        $($crate::operators::options::common_options! { @rest $($rest)* })?
    };
}

/// Implements `Processor` and `Stage` for a type with a field `options` and a method `operator(&self)` that makes its
/// operator.
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

/// Implements `Debug` for a type that holds closures: its name, and the named fields.
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

/// Implements `Debug` for a live handle: the current results of its methods.
macro_rules! live_debug {
    ($type:ident: $($method:ident),+) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))$(.field(stringify!($method), &self.$method()))+.finish()
            }
        }
    };
}

pub(crate) use {common_options, live_debug, opaque_debug, stage};
