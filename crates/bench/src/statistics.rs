//! The middle and the tail of many measurements.

use std::time::Duration;

/// The median; of an even number of values, the mean of the two in the middle. NaN of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

/// The shortest of the times that `percent` of them do not exceed (nearest rank), in milliseconds. NaN of none.
pub(crate) fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let cases: [(&[f64], f64); 4] =
            [(&[3.0], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0), (&[2.0, 1.0], 1.5)];
        for (values, expected) in cases {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
        assert!(median([]).is_nan());
    }

    #[test]
    fn percentiles() {
        let times = |count: u64| (1..=count).map(Duration::from_millis).collect::<Vec<_>>();
        let cases = [
            (1, 50, 1.0),
            (1, 99, 1.0),
            (2, 50, 1.0),
            (2, 51, 2.0),
            (5, 50, 3.0),
            (100, 50, 50.0),
            (100, 99, 99.0),
            (101, 99, 100.0),
            (1_000, 99, 990.0),
            (10, 100, 10.0),
            (10, 0, 1.0),
        ];
        for (count, percent, expected) in cases {
            assert_eq!(percentile_ms(&times(count), percent), expected, "{percent} % of {count}");
        }
        assert!(percentile_ms(&[], 50).is_nan());
    }
}
