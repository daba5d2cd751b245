//! Medians and percentiles of what was measured.

/// What several runs gave: their median, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of one value per run; `None`: there was no run.
    pub(crate) fn of(runs: &[f64]) -> Option<Spread> {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        Some(Spread { median: median_of_sorted(&sorted), low, high })
    }

    /// In another unit.
    pub(crate) fn times(self, factor: f64) -> Spread {
        Spread { median: self.median * factor, low: self.low * factor, high: self.high * factor }
    }
}

/// The middle value, or the mean of the two in the middle.
fn median_of_sorted(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The value that `percent` (0 to 100) of the values do not exceed, by nearest rank; `None`: there are no values.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// The slope of the straight line that is nearest to these points, by least squares; `None`: fewer than two abscissas.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (run > 0.0).then_some(rise / run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_and_extremes() {
        let check = |runs: &[f64], expected: Option<(f64, f64, f64)>| {
            let got = Spread::of(runs).map(|spread| (spread.median, spread.low, spread.high));
            assert_eq!(got, expected, "{runs:?}");
        };
        check(&[], None);
        check(&[3.0], Some((3.0, 3.0, 3.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
        check(&[4.0, 1.0, 2.0, 8.0], Some((3.0, 1.0, 8.0)));
        check(&[-2.0, 5.0], Some((1.5, -2.0, 5.0)));
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let check = |count: u32, percent: f64, expected: Option<f64>| {
            let mut values: Vec<f64> = (1..=count).rev().map(f64::from).collect();
            assert_eq!(percentile(&mut values, percent), expected, "{count} values, {percent} %");
        };
        check(0, 50.0, None);
        check(1, 99.0, Some(1.0));
        check(100, 50.0, Some(50.0));
        check(100, 99.0, Some(99.0));
        check(100, 100.0, Some(100.0));
        check(1000, 99.0, Some(990.0));
        check(10, 0.0, Some(1.0));
    }

    #[test]
    fn a_slope_is_what_one_more_costs() {
        let check = |points: &[(f64, f64)], expected: Option<f64>| {
            let rounded = slope(points).map(|slope| (slope * 1e9).round() / 1e9);
            assert_eq!(rounded, expected, "{points:?}");
        };
        check(&[(0.0, 10.0), (1.0, 13.0), (4.0, 22.0)], Some(3.0));
        check(&[(0.0, 10.0), (2.0, 10.0)], Some(0.0));
        check(&[(1.0, 10.0), (1.0, 20.0)], None);
        check(&[], None);
    }
}
