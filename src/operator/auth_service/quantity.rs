//! Kubernetes quantities compared by value: `1Gi` and `1024Mi` are the same amount
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

/// The amount in billionths, the finest step Kubernetes keeps; `None` for what is no quantity.
#[must_use]
pub fn nano(text: &str) -> Option<i128> {
    let number_end = text
        .char_indices()
        .find(|&(index, c)| !(c.is_ascii_digit() || c == '.' || (index == 0 && (c == '-' || c == '+'))))
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at_checked(number_end)?;
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Beyond 27 digits behind the point nothing is left of any suffix.
    let fraction = fraction.get(..fraction.len().min(27))?;
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let denominator = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (multiplier, divisor) = scale(suffix)?;
    let scaled = mantissa.checked_mul(multiplier)?;
    let divisor = denominator.checked_mul(divisor)?;
    // Rounded up, as Kubernetes does.
    let amount = scaled.checked_add(divisor - 1)? / divisor;
    Some(if negative { -amount } else { amount })
}

/// What a suffix multiplies by, in billionths, as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    const NANO: i128 = 1_000_000_000;
    let binary = |power: u32| Some((NANO.checked_mul(1024_i128.checked_pow(power)?)?, 1));
    let decimal = |exponent: i32| {
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        if exponent < 0 { Some((NANO, power)) } else { Some((NANO.checked_mul(power)?, 1)) }
    };
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_whatever_their_suffix() {
        for (one, other) in [
            ("1Gi", "1024Mi"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("2E", "2e18"),
            ("+1", "1.0"),
            (".5", "0.5"),
        ] {
            assert_eq!(nano(one), nano(other), "{one} {other}");
            assert!(nano(one).is_some(), "{one}");
        }
        assert!(nano("1G") < nano("1Gi"));
        assert_eq!(nano("100m"), Some(100_000_000));
        assert_eq!(nano("-1"), Some(-1_000_000_000));
    }

    #[test]
    fn what_is_no_quantity_is_refused_without_a_panic() {
        for nonsense in [
            "",
            ".",
            "-",
            "Gi",
            "1 Gi",
            "1GiB",
            "ü",
            "1e",
            "1e999",
            "9999999999999999999999999999999999999999",
        ] {
            assert_eq!(nano(nonsense), None, "{nonsense:?}");
        }
    }
}
