#![doc = "[group_batches]: self::group_batches"]
#![doc = "[retry]: self::retry"]
#![doc = "[payments]: self::payments"]
#![doc = "[retry_by_class]: self::retry_by_class"]
#![doc = "[dead_letters]: self::dead_letters"]
#![doc = "[multi_stage_routing]: self::multi_stage_routing"]
#![doc = "[api_gateway]: self::api_gateway"]
#![doc = "[microservices]: self::microservices"]
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
    api_gateway
    dead_letters
    group_batches
    microservices
    multi_stage_routing
    payments
    retry
    retry_by_class
}
