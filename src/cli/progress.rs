use indicatif::{ProgressBar, ProgressStyle};

/// Returns a progress bar in bytes on standard error, which stays silent where that is not a terminal.
pub fn bar(verb: &'static str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{prefix} {percent} %, {eta} left",
        None => "{prefix} {decimal_bytes}, {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style).with_prefix(verb)
}
