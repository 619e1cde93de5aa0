//! Guides, from the first pipeline to what happens below it.
//!
//! | you want to | read |
//! |---|---|
//! | test a pipeline without sleeping | [`testing`] |
//! | make it fast | [`performance`] |
//! | know how it works | [`design`] |

// The pages link to each other by reference. The first definition of a reference counts: here those of rustdoc, before
// those of the page, which are for who reads the file.

macro_rules! guide {
    ($name:ident, $file:literal) => {
        #[doc = "[testing]: crate::guides::testing"]
        #[doc = "[performance]: crate::guides::performance"]
        #[doc = "[design]: crate::guides::design"]
        #[doc = ""]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    };
}

guide!(testing, "testing.md");
guide!(performance, "performance.md");
guide!(design, "design.md");
