//! Texts that others wrote and people will see.

/// Whether a character could move a cursor, hide or reorder what is beside it, or forge a line: control characters
/// (Unicode category Cc), line and paragraph separators, and those that change the direction of text (Unicode
/// Standard Annex 9; Boucher, Anderson, "Trojan Source", 2021).
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}'
                | '\u{061c}'
                | '\u{200e}' | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// The text with a space in place of whatever could do harm where it is printed.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if is_harmful(c) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_a_line_around_is_taken_out() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\u{9b}c\u{202e}d\u{2066}e\r\nf"),
            "a [2Jb c d e  f"
        );
        assert_eq!(harmless("grüße 文書 👩‍👩‍👧 עברית"), "grüße 文書 👩‍👩‍👧 עברית");
    }
}
