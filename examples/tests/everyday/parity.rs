//! Splits numbers into odd and even ones, and collects both.

use streamz::prelude::*;

fn parity(
    numbers: impl IntoIterator<Item = u64, IntoIter: Send + 'static>,
) -> Result<(Vec<u64>, Vec<u64>), StreamError> {
    let (result, _report) = Pipeline::run("parity", |pipeline| {
        let (odd, even) = Stream::from_iter(pipeline, numbers).split(|n| n % 2 == 1);
        // Both branches have to be read at a time, for the one that is not read fills.
        let odd = odd.spawn(|odd| odd.collect::<Vec<_>>());
        let even = even.collect::<Vec<_>>()?;
        Ok((odd.join()?, even))
    });
    result
}

#[test]
fn each_branch_has_its_numbers_in_order() {
    let (odd, even) = parity(0..100_000).unwrap();
    assert!(odd.iter().copied().eq((1..100_000).step_by(2)));
    assert!(even.iter().copied().eq((0..100_000).step_by(2)));
    assert_eq!(parity([]).unwrap(), (vec![], vec![]));
}
