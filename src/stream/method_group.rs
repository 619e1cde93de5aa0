//! Headings in the documentation of [`Stream`](crate::Stream).

/// Heads a group of methods in the documentation of [`Stream`](crate::Stream).
///
/// rustdoc shows the `impl` blocks of a type in the order in which their modules are declared. So the modules of this crate
/// are declared by purpose, and the first of a group is this one, with an empty `impl` block:
///
/// ```text
/// method_group! {
///     /// # Batches
///     mod batches
/// }
/// ```
///
/// The top comment of `Stream` links to the heading of each group.
macro_rules! method_group {
    ($(#[$doc:meta])+ mod $name:ident) => {
        mod $name {
            $(#[$doc])+
            impl<T: Send + 'static> $crate::Stream<T> {}
        }
    };
}

pub(crate) use method_group;
