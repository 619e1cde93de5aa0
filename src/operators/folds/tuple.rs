//! Tuples of folds: several values of the same items.

use super::fold::Fold;

/// A tuple of folds of the same items. If one of them panics on an item, those before it have already folded the item.
macro_rules! tuple {
    ($($fold:ident $index:tt),+) => {
        impl<T, $($fold: Fold<T>),+> Fold<T> for ($($fold,)+) {
            type State = ($($fold::State,)+);
            type Result = ($($fold::Result,)+);

            fn init(&self) -> Self::State {
                ($(self.$index.init(),)+)
            }

            #[inline]
            fn fold(&self, state: &mut Self::State, item: &T) {
                $(self.$index.fold(&mut state.$index, item);)+
            }

            fn merge(&self, state: &mut Self::State, later: &Self::State) {
                $(self.$index.merge(&mut state.$index, &later.$index);)+
            }

            fn finish(&self, state: Self::State) -> Self::Result {
                ($(self.$index.finish(state.$index),)+)
            }
        }
    };
}

tuple! { A 0, B 1 }
tuple! { A 0, B 1, C 2 }
tuple! { A 0, B 1, C 2, D 3 }
tuple! { A 0, B 1, C 2, D 3, E 4 }
tuple! { A 0, B 1, C 2, D 3, E 4, F 5 }

#[cfg(test)]
mod tests {
    use crate::operators::folds::{check::result, count, min_max, sum};

    #[test]
    fn a_tuple_of_folds_makes_a_tuple_of_their_results() {
        let several = (count(), sum(|n: &i32| *n), min_max(|n: &i32| *n));
        assert_eq!(result(several, &[3, -1, 2]), (3, 4, Some((-1, 3))));
    }
}
