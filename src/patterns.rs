#![doc = "[ab_test]: self::ab_test"]
#![doc = "[analytics]: self::analytics"]
#![doc = "[api_gateway]: self::api_gateway"]
#![doc = "[backpressure]: self::backpressure"]
#![doc = "[content_routing]: self::content_routing"]
#![doc = "[dead_letters]: self::dead_letters"]
#![doc = "[etl]: self::etl"]
#![doc = "[geo_partitions]: self::geo_partitions"]
#![doc = "[group_batches]: self::group_batches"]
#![doc = "[hash_distribution]: self::hash_distribution"]
#![doc = "[load_balancing]: self::load_balancing"]
#![doc = "[microservices]: self::microservices"]
#![doc = "[monitoring]: self::monitoring"]
#![doc = "[multi_stage_routing]: self::multi_stage_routing"]
#![doc = "[parallel_aggregation]: self::parallel_aggregation"]
#![doc = "[payments]: self::payments"]
#![doc = "[quality_control]: self::quality_control"]
#![doc = "[retry]: self::retry"]
#![doc = "[retry_by_class]: self::retry_by_class"]
#![doc = "[sessions]: self::sessions"]
#![doc = "[split]: self::split"]
#![doc = "[switch]: self::switch"]
#![doc = "[tiers]: self::tiers"]
#![doc = "[user_events]: self::user_events"]
#![doc = ""]
#![doc = include_str!("../docs/patterns.md")]

// Pages link to each other by name. As in the guides, the first of two definitions of a link counts, which is the one
// for rustdoc.

macro_rules! pattern {
    ($($name:ident)*) => { pattern! { @[$($name)*] $($name)* } };
    (@$all:tt $($name:ident)*) => { $( page! { $all $name } )* };
}

macro_rules! page {
    ([$($other:ident)*] $name:ident) => {
        $( #[doc = concat!("[", stringify!($other), "]: crate::patterns::", stringify!($other))] )*
        #[doc = include_str!(concat!("../docs/pictures/", stringify!($name), ".rustdoc"))]
        #[doc = ""]
        #[doc = include_str!(concat!("../docs/patterns/", stringify!($name), ".md"))]
        pub mod $name {}
    };
}

pattern! {
    ab_test
    analytics
    api_gateway
    backpressure
    content_routing
    dead_letters
    etl
    geo_partitions
    group_batches
    hash_distribution
    load_balancing
    microservices
    monitoring
    multi_stage_routing
    parallel_aggregation
    payments
    quality_control
    retry
    retry_by_class
    sessions
    split
    switch
    tiers
    user_events
}
