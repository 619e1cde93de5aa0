//! Names of pipelines and stages: their threads carry them, and the operating system takes no NUL byte in a name.

/// Returns the name, if it can be that of a thread.
///
/// Every setter that takes a name calls this, so that a bad name is refused where it is given and not in the call that
/// starts the thread.
#[track_caller]
pub(crate) fn checked<N: AsRef<str>>(name: impl Into<N>) -> N {
    let name = name.into();
    assert!(!name.as_ref().contains('\0'), "`name` must not contain a NUL byte: {:?}", name.as_ref());
    name
}
