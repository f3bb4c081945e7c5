use std::fmt::{self, Display, Write};

use tracing::Level;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A JSON object.
    Json,
    /// Words for people.
    Plain,
    /// Words with colours for a terminal.
    Coloured,
}

/// A line of the log while it is written.
pub struct Line {
    style: Style,
    text: String,
    target: String,
}

impl Line {
    /// Begins a line with the present moment and its level.
    pub fn begin(style: Style, level: &Level, target: &str) -> Self {
        let now = jiff::Timestamp::now();
        let mut text = String::with_capacity(512);
        let _ = match style {
            Style::Json => write!(text, "{{\"timestamp\":\"{now:.6}\",\"level\":\"{level}\""),
            Style::Plain => write!(text, "{now:.6} {level:>5} {target}:"),
            Style::Coloured => {
                let colour = match *level {
                    Level::ERROR => 31,
                    Level::WARN => 33,
                    Level::INFO => 32,
                    Level::DEBUG => 34,
                    Level::TRACE => 35,
                };
                write!(text, "\x1b[2m{now:.6}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m")
            }
        };
        Self { style, text, target: target.to_owned() }
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, value: impl Display) {
        if self.style == Style::Json {
            self.name(name);
            self.text.push('"');
            let _ = write!(Escaped(&mut self.text), "{value}");
            self.text.push('"');
        } else if name == "message" {
            self.text.push(' ');
            let _ = write!(OneLine(&mut self.text), "{value}");
        } else {
            self.name(name);
            let _ = write!(OneLine(&mut self.text), "{value}");
        }
    }

    /// Adds a number, or a truth value.
    pub fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _ = write!(self.text, "{value}");
    }

    fn name(&mut self, name: &str) {
        let (before, after) = match self.style {
            Style::Json => (",\"", "\":"),
            Style::Plain => (" ", "="),
            Style::Coloured => (" \x1b[3m", "\x1b[0m\x1b[2m=\x1b[0m"),
        };
        self.text.push_str(before);
        self.text.push_str(name);
        self.text.push_str(after);
    }

    /// Returns the whole line.
    pub fn end(mut self) -> String {
        if self.style == Style::Json {
            let _ = write!(self.text, ",\"target\":\"{}\"}}", self.target);
        }
        self.text.push('\n');
        self.text
    }
}

/// Writes a text into a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(index) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            let (plain, special) = rest.split_at(index);
            self.0.push_str(plain);
            let byte = special.as_bytes()[0];
            match byte {
                b'"' | b'\\' => self.0.extend(['\\', char::from(byte)]),
                b'\n' => self.0.push_str("\\n"),
                _ => write!(self.0, "\\u{byte:04x}")?,
            }
            rest = &special[1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

/// Writes a text without control characters, which could forge a line or command a terminal.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(style: Style) -> String {
        let mut line = Line::begin(style, &Level::WARN, "stockroom::part");
        line.text("message", "it \"broke\"\n");
        line.text("path", "C:\\\u{1b}[31mé");
        line.plain("count", 3);
        line.end()
    }

    #[test]
    fn a_line_of_json_is_json_whatever_its_texts_are() {
        let line = line(Style::Json);
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["message"], &line["path"]), (&"it \"broke\"\n".into(), &"C:\\\u{1b}[31mé".into()));
        assert_eq!((&line["count"], &line["level"]), (&3.into(), &"WARN".into()));
        assert_eq!(line["target"], "stockroom::part");
        let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(at <= jiff::Timestamp::now());
    }

    #[test]
    fn a_line_of_words_holds_no_control_characters() {
        let line = line(Style::Plain);
        let (_, words) = line.split_once(' ').unwrap();
        assert_eq!(words, " WARN stockroom::part: it \"broke\"\\n path=C:\\\\u{1b}[31mé count=3\n");
    }
}
