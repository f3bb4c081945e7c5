//! CSV (RFC 4180), written so that a spreadsheet takes no text for a formula.

/// The characters with which a spreadsheet begins a formula.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// Whether a text gets an apostrophe in front of it: because a spreadsheet would take it for a formula, or because it
/// looks like one that has an apostrophe already.
fn needs_apostrophe(text: &str) -> bool {
    text.starts_with(FORMULA)
        || text.strip_prefix('\'').is_some_and(|rest| rest.starts_with(FORMULA) || rest.starts_with('\''))
}

/// A text as it stands in a file: harmless in a spreadsheet.
pub fn guarded(text: &str) -> String {
    if needs_apostrophe(text) { format!("'{text}") } else { text.to_owned() }
}

/// Writes a record.
pub fn write_record<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = &'a str>) {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if field.contains(['"', ',', '\r', '\n']) {
            out.push(b'"');
            out.extend_from_slice(field.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(field.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_looks_like_a_formula_gets_one_apostrophe_and_no_other_text_does() {
        for text in ["=1", "+1", "-1", "@a", "\ta", "\ra", "'=1", "''", "''=1", "'-", "\n="] {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in ["", "a", "'", "'a", "1-1", " =1"] {
            assert_eq!(guarded(text), text);
        }
    }
}
