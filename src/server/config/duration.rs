//! Durations as people write them in manifests: `24h`, `1h30m`, `90s`.

use std::time::Duration;

/// Parses one or more of number and unit (`d`, `h`, `m`, `s`), such as `1h30m`; `None` for
/// anything else and for what overflows.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let seconds = match rest.as_bytes().get(digits)? {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(seconds)?)?;
        rest = rest.get(digits + 1..)?;
    }
    (!text.is_empty()).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up_and_anything_else_is_refused() {
        let seconds = |text: &str| parse(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("24h"), Some(86_400));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds("2d1s"), Some(172_801));
        for nonsense in
            ["", "24", "h", "-1h", "1.5h", "1 h", "1y", "ü", "99999999999999999999s", "999999999999999999d"]
        {
            assert_eq!(seconds(nonsense), None, "{nonsense:?}");
        }
    }
}
