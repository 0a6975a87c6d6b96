//! What was measured, as people and programs read it.

use serde::Serialize;

/// What a figure must be to be good enough.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// The median of all rounds, and the least and most of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Summary {
    /// Of one value a round; there is at least one.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (half, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median =
            if values.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.wrapping_sub(1)), at(half)) };
        Self { median, least: at(0), most: at(last) }
    }
}

/// One ratio.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    spread: [f64; 2],
    rounds: usize,
    against: &'static str,
    target: Option<Target>,
    met: Option<bool>,
}

impl Figure {
    /// A ratio of two measurements in each round.
    pub(super) fn ratio(
        name: &'static str,
        against: &'static str,
        target: Target,
        pairs: impl Iterator<Item = (f64, f64)>,
    ) -> Self {
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        let Summary { median, least, most } = Summary::of(ratios.iter().copied());
        Self {
            name,
            value: median,
            unit: "ratio",
            spread: [least, most],
            rounds: ratios.len(),
            against,
            target: Some(target),
            met: Some(target.is_met(median)),
        }
    }

    /// For a person.
    pub(super) fn line(&self) -> String {
        let Self { name, value, spread: [least, most], against, target, met, .. } = self;
        let target = match target {
            Some(Target::AtLeast(least)) => format!(", to be at least {least}"),
            Some(Target::AtMost(most)) => format!(", to be at most {most}"),
            None => String::new(),
        };
        let missed = if *met == Some(false) { " MISSED" } else { "" };
        format!("  {name}: {value:.2} of {against} ({least:.2} to {most:.2}{target}){missed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_least_and_the_most() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]), Summary { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Summary::of([4.0, 1.0]), Summary { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Summary::of([7.0]), Summary { median: 7.0, least: 7.0, most: 7.0 });
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let figure = Figure::ratio(
            "rate",
            "the limit",
            Target::AtLeast(0.9),
            [(1.0, 2.0), (4.0, 4.0), (9.0, 10.0)].into_iter(),
        );
        assert_eq!(figure.line(), "  rate: 0.90 of the limit (0.50 to 1.00, to be at least 0.9)");
        assert_eq!((figure.rounds, figure.met), (3, Some(true)));
        let missed = Figure::ratio("CPU", "the limit", Target::AtMost(1.2), [(3.0, 2.0)].into_iter());
        assert_eq!(missed.line(), "  CPU: 1.50 of the limit (1.50 to 1.50, to be at most 1.2) MISSED");
    }
}
