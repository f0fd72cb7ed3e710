//! Times and sizes in words.

use chrono::{DateTime, TimeDelta, Utc};

/// How long: in its two largest units, or to the second.
pub(crate) fn span(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    let (minutes, hours, days) =
        (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A moment as seen from `now`.
pub(crate) fn when(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if time > now {
        format!("in {}", span(time - now))
    } else {
        format!("{} ago", span(now - time))
    }
}

/// A moment, to the millisecond: what a log is compared with.
pub(crate) fn moment(time: DateTime<Utc>) -> String {
    time.format("%FT%T%.3fZ").to_string()
}

/// `yes` or `no`.
pub(crate) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_string()
}

/// A value, or `-`.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_string(), |value| value.to_string())
}

/// How wide a line of running text may be.
const WIDTH: usize = 98;

/// A text in lines, each set in by so much. Its own lines stay apart, and its
/// own setting in stays.
pub(crate) fn set_in(text: &str, by: usize) -> String {
    let mut out = String::new();
    for paragraph in text.lines() {
        let own = paragraph.len() - paragraph.trim_start().len();
        let mut line = " ".repeat(by + own);
        for word in paragraph.split_whitespace() {
            let empty = line.trim().is_empty();
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH
            {
                out += &format!("{line}\n");
                line = " ".repeat(by + own);
            } else if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        out += &format!("{}\n", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_two_largest_units() {
        for (seconds, words) in [
            (-1, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3_599, "59m59s"),
            (3_660, "1h01m"),
            (90_000, "1d01h"),
        ] {
            assert_eq!(span(TimeDelta::seconds(seconds)), words);
        }
    }

    #[test]
    fn a_long_text_is_broken_between_words_and_set_in() {
        let text = format!("{}\n  b c", "word ".repeat(40));
        let lines = set_in(&text, 4);
        let lines: Vec<&str> = lines.lines().collect();
        let full = format!("    {}", ["word"; 19].join(" "));
        assert_eq!(full.len(), WIDTH);
        assert_eq!(lines, [&full, &full, "    word word", "      b c"]);
    }
}
