//! Amounts (`1Gi`, `500m`) in the one form that Kubernetes writes for each.

/// Suffixes and what they multiply by, as powers.
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// An amount in billionths.
pub(super) fn nano(text: &str) -> Option<i128> {
    parse(text).map(|(nano, _)| nano)
}

/// The canonical form; `None` for what is no amount.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (nano, form) = parse(text)?;
    Some(match form {
        Form::Binary => binary(nano).unwrap_or_else(|| decimal(nano)),
        Form::Decimal => decimal(nano),
        Form::Exponent => exponent(nano),
    })
}

enum Form {
    Binary,
    Decimal,
    Exponent,
}

fn parse(text: &str) -> Option<(i128, Form)> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(fraction)
        || fraction.len() > 18
    {
        return None;
    }
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    if let Some((_, power)) = BINARY.iter().find(|(known, _)| *known == suffix) {
        let value = number.checked_mul(1 << power)?.checked_mul(1_000_000_000)?;
        return Some((sign * divide_up(value, 10_i128.checked_pow(scale.unsigned_abs())?), Form::Binary));
    }
    let (power, form) = match DECIMAL.iter().find(|(known, _)| *known == suffix) {
        Some((_, power)) => (*power, Form::Decimal),
        None => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, Form::Exponent),
    };
    let power = power + 9 - scale;
    let ten = 10_i128.checked_pow(power.unsigned_abs())?;
    let value = if power < 0 { divide_up(number, ten) } else { number.checked_mul(ten)? };
    Some((sign * value, form))
}

fn divide_up(number: i128, by: i128) -> i128 {
    (number + by - 1) / by
}

fn binary(nano: i128) -> Option<String> {
    let whole = nano / 1_000_000_000;
    if nano % 1_000_000_000 != 0 || (-1024 < whole && whole < 1024) {
        return None;
    }
    let fits = BINARY.iter().rev().find(|(_, power)| whole % (1 << power) == 0);
    Some(match fits {
        Some((suffix, power)) => format!("{}{suffix}", whole >> power),
        None => whole.to_string(),
    })
}

fn decimal(nano: i128) -> String {
    if nano == 0 {
        return "0".to_owned();
    }
    let fits = DECIMAL.iter().rev().find(|(_, power)| nano % 10_i128.pow((power + 9).unsigned_abs()) == 0);
    match fits {
        Some((suffix, power)) => format!("{}{suffix}", nano / 10_i128.pow((power + 9).unsigned_abs())),
        None => format!("{nano}n"),
    }
}

fn exponent(nano: i128) -> String {
    let mut power = 0;
    let mut value = nano;
    while value != 0 && value % 1000 == 0 {
        value /= 1000;
        power += 3;
    }
    match power - 9 {
        0 => value.to_string(),
        power => format!("{value}e{power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_one_form() {
        for (written, form) in [
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("1.5Gi", "1536Mi"),
            ("2000", "2k"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("512", "512"),
            ("0.5Mi", "512Ki"),
            ("1Ki", "1Ki"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(form), "{written}");
        }
        for wrong in ["", "x", "1X", "1.2.3", "Gi"] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }
}
