//! [`Latencies`]: which stages record.

use std::sync::Arc;

/// Which stages of a pipeline record their latencies; for
/// [`PipelineBuilder::latencies`](crate::PipelineBuilder::latencies). Defaults to none.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until they are given to the builder"]
pub struct Latencies(Which);

#[derive(Debug, Clone, Default)]
enum Which {
    #[default]
    None,
    All,
    Named(Vec<Arc<str>>),
}

impl Latencies {
    /// Selects no stage.
    pub fn none() -> Self {
        Self(Which::None)
    }

    /// Selects every stage.
    pub fn all() -> Self {
        Self(Which::All)
    }

    /// Selects the stages with these names. A name may be the one that the stage was given, which several may share, or
    /// the one that it has in the report. A name that no stage has is ignored.
    pub fn of(stages: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        Self(Which::Named(stages.into_iter().map(Into::into).collect()))
    }

    /// Whether any stage records anything.
    pub(super) fn are_wanted(&self) -> bool {
        !matches!(self.0, Which::None)
    }

    /// Whether a stage with these names records them.
    pub(super) fn include(&self, names: [&str; 2]) -> bool {
        match &self.0 {
            Which::None => false,
            Which::All => true,
            Which::Named(wanted) => wanted.iter().any(|name| names.contains(&&**name)),
        }
    }
}
