// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is said of several measurements of one thing.

/// The measurements of one thing, one for each round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    values: Vec<f64>,
}

impl Sample {
    /// Takes in one more.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// How many there are.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.values.len()
    }

    /// The one in the middle, or the mean of the two there; `None` if there are none.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted[middle - 1] + upper) / 2.0) }
    }

    /// How far apart the least and the greatest are, as a part of the median; `None` if there are none.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let least = self.values.iter().copied().min_by(f64::total_cmp)?;
        let greatest = self.values.iter().copied().max_by(f64::total_cmp)?;
        Some((greatest - least) / self.median()?)
    }
}

/// The value of which the part `part` of `sorted` is at most that, which are in ascending order: the one at the nearest rank. `None` if
/// there are too few for any to be above it.
#[must_use]
pub fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    // At most as many as there are values.
    let rank = (part * sorted.len() as f64).ceil() as usize;
    if rank == 0 || rank == sorted.len() { None } else { sorted.get(rank - 1).copied() }
}

/// The geometric mean of positive numbers; `None` if there are none.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
    if values.is_empty() { None } else { Some((logarithms / values.len() as f64).exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.add(*value));
        sample
    }

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_is_a_part_of_it() {
        assert_eq!(sample(&[9.0, 1.0, 4.0]).median(), Some(4.0));
        assert_eq!(sample(&[9.0, 1.0, 4.0]).spread(), Some(2.0));
        assert_eq!(sample(&[9.0, 1.0, 4.0, 6.0]).median(), Some(5.0));
        assert_eq!((sample(&[]).median(), sample(&[]).spread()), (None, None));
    }

    #[test]
    fn a_percentile_has_values_on_both_sides_or_is_not_told() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&values, 0.999), None);
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn the_geometric_mean_of_a_ratio_and_its_inverse_is_one() {
        let mean = geometric_mean(&[4.0, 0.25]).unwrap();
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
        assert_eq!(geometric_mean(&[]), None);
    }
}
