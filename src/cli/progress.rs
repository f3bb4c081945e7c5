use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far something with this many bytes has come, shown on standard error if that is a terminal.
pub fn of_bytes(total: u64, what: &'static str) -> ProgressBar {
    bar(Some(total), "{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left", what)
}

/// How many bytes have come of something that may have any number of them, likewise.
pub fn endless(what: &'static str) -> ProgressBar {
    bar(None, "{msg} {bytes}, {elapsed}", what)
}

fn bar(total: Option<u64>, template: &str, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style).with_message(what)
}
