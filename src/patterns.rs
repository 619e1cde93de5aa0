#![doc = "[group_batches]: self::group_batches"]
#![doc = "[retry]: self::retry"]
#![doc = "[payments]: self::payments"]
#![doc = ""]
#![doc = include_str!("../docs/patterns.md")]

// As in the guides: of two definitions of a link the first counts, and that is the one for rustdoc.

macro_rules! pattern {
    ($($name:ident)*) => {
        $(
            #[doc = include_str!(concat!("../docs/patterns/", stringify!($name), ".md"))]
            pub mod $name {}
        )*
    };
}

pattern! {
    group_batches
    payments
    retry
}
