//! Guides that lead from the first pipeline to its internals.
//!
//! | you want to | read |
//! |---|---|
//! | write a first pipeline | [`quickstart`] |
//! | find a short answer | [`cookbook`] |
//! | find an operator | [`operators`] |
//! | decide how to handle failures | [`error_handling`] |
//! | test a pipeline without sleeping | [`testing`] |
//! | lose nothing when the process is killed | [`delivery`] |
//! | watch a running pipeline in a terminal | [`live`] |
//! | get it right in production | [`best_practices`] |
//! | run it, and find out why it hangs or is slow | [`operations`] |
//! | make it fast | [`performance`] |
//! | come from the Go library `streamz` | [`from_go`] |
//! | see the patterns of its document in both languages | [`from_go_patterns`] |
//! | know how it works | [`design`] |

// The pages link to each other by reference. If a reference is defined twice, the first definition counts: here those
// for rustdoc, before those of the page, which are for readers of the file.

macro_rules! guide {
    ($name:ident, $file:literal $(, $pattern:ident)*) => {
        #[doc = "[quickstart]: crate::guides::quickstart"]
        #[doc = "[error handling]: crate::guides::error_handling"]
        #[doc = "[testing]: crate::guides::testing"]
        #[doc = "[delivery]: crate::guides::delivery"]
        #[doc = "[live view]: crate::guides::live"]
        #[doc = "[best practices]: crate::guides::best_practices"]
        #[doc = "[operations]: crate::guides::operations"]
        #[doc = "[cookbook]: crate::guides::cookbook"]
        #[doc = "[operators]: crate::guides::operators"]
        #[doc = "[performance]: crate::guides::performance"]
        #[doc = "[from Go]: crate::guides::from_go"]
        #[doc = "[from Go, patterns]: crate::guides::from_go_patterns"]
        #[doc = "[patterns]: crate::patterns"]
        $( #[doc = concat!("[", stringify!($pattern), "]: crate::patterns::", stringify!($pattern))] )*
        #[doc = "[design]: crate::guides::design"]
        #[doc = "[Report]: crate::Report"]
        #[doc = "[StageReport]: crate::StageReport"]
        #[doc = "[StepReport]: crate::StepReport"]
        #[doc = "[OutputReport]: crate::OutputReport"]
        #[doc = "[Pipeline]: crate::Pipeline"]
        #[doc = "[CancelToken]: crate::CancelToken"]
        #[doc = "[PipelineBuilder]: crate::PipelineBuilder"]
        #[doc = "[streamz-journal]: https://docs.rs/streamz-journal"]
        #[doc = "[streamz-redis]: https://docs.rs/streamz-redis"]
        #[doc = "[streamz-kafka]: https://docs.rs/streamz-kafka"]
        // The only picture of the guides; it is on the page about operations.
        #[doc = include_str!("../docs/pictures/slow.rustdoc")]
        #[doc = ""]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    };
}

guide!(quickstart, "quickstart.md");
guide!(error_handling, "error-handling.md");
guide!(testing, "testing.md");
guide!(delivery, "delivery.md");
guide!(live, "live.md");
guide!(best_practices, "best-practices.md");
guide!(operations, "operations.md");
guide!(cookbook, "cookbook.md");
guide!(operators, "operators.md");
guide!(performance, "performance.md");
guide!(from_go, "from-go.md");
guide!(
    from_go_patterns,
    "from-go-patterns.md",
    api_gateway,
    backpressure,
    hash_distribution,
    retry_by_class,
    microservices,
    group_batches,
    switch,
    sessions,
    geo_partitions,
    split
);
guide!(design, "design.md");
