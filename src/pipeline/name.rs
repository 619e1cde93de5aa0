//! Names of pipelines and stages. Threads are named after them, so a name must not contain a NUL byte.

/// Returns the name, if it is a valid thread name.
///
/// Every setter that takes a name calls this, so an invalid name is refused where it is given and not in the call that
/// starts the thread.
#[track_caller]
pub(crate) fn checked<N: AsRef<str>>(name: impl Into<N>) -> N {
    let name = name.into();
    assert!(!name.as_ref().contains('\0'), "`name` must not contain a NUL byte: {:?}", name.as_ref());
    name
}
