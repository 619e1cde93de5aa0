//! Names the operators and calls that the processors of this library run: their [`Stage::Op`](crate::Stage::Op) and
//! [`CallStage::Call`](crate::CallStage::Call).
//!
//! Use these names only to write the type of something that holds such an operator or call; a processor creates it
//! in [`Stage::start`](crate::Stage::start) or [`CallStage::to_call`](crate::CallStage::to_call).

pub use super::batch::batcher::BatcherOperator;
pub use super::batch::keyed_batcher::KeyedBatcherOperator;
pub use super::flow::debounce::DebounceOperator;
pub use super::flow::delay::DelayOperator;
pub use super::flow::throttle::ThrottleOperator;
pub use super::flow::timeout::TimeoutOperator;
#[cfg(feature = "latency")]
pub use super::item::age_meter::AgeMeterOperator;
pub use super::item::dedupe::DedupeOperator;
pub use super::item::enumerate::EnumerateOperator;
pub use super::item::filter::FilterOperator;
pub use super::item::filter_map::FilterMapOperator;
pub use super::item::flat_map::FlatMapOperator;
pub use super::item::flatten::FlattenOperator;
pub use super::item::keyed_scan::KeyedScanOperator;
pub use super::item::lift::LiftOperator;
pub use super::item::map::MapperOperator;
pub use super::item::map_err::MapErrOperator;
pub use super::item::recover::RecoverOperator;
pub use super::item::sample::SampleOperator;
pub use super::item::scan::ScanOperator;
pub use super::item::skip::SkipOperator;
pub use super::item::skip_while::SkipWhileOperator;
pub use super::item::take::TakeOperator;
pub use super::item::take_while::TakeWhileOperator;
pub use super::item::tap::TapOperator;
pub use super::item::try_map::{FallibleCall, FallibleMapperOperator};
pub use super::pool::async_mapper::AsyncCall;
pub use super::resilience::adaptive_concurrency::AdaptiveCall;
pub use super::resilience::bulkhead::BulkheadLayer;
pub use super::resilience::call_timeout::TimeoutLayer;
pub use super::resilience::circuit_breaker::BreakerCall;
pub use super::resilience::fallback::FallbackCall;
pub use super::resilience::hedge::HedgeCall;
pub use super::resilience::layered::LayerCall;
pub use super::resilience::rate_limit::RateLayer;
pub use super::resilience::retry::RetryCall;
pub use super::window::aggregate::operator::AggregateOperator;
pub use super::window::operator::WindowOperator;
pub use super::window::sort_by_time::SortByTimeOperator;
pub use crate::stage::fuse::FusedOperator;
