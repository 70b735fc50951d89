//! Plots in SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const BAR: f64 = 26.0;
const LABEL: f64 = 250.0;
const COLORS: [&str; 4] = ["#3b6ea8", "#c05621", "#2f855a", "#805ad5"];

/// Returns horizontal bars, each with its label and its value.
pub(crate) fn bars(title: &str, unit: &str, bars: &[(String, f64)]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few bars")]
    let height = 50.0 + bars.len() as f64 * BAR;
    let mut svg = start(title, height);
    let largest = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut top = 40.0;
    for (label, value) in bars {
        let width = value / largest * (WIDTH - LABEL - 110.0);
        let _ = write!(
            svg,
            r#"<text x="{x}" y="{y}" text-anchor="end">{label}</text><rect x="{LABEL}" y="{top}" width="{width:.1}" height="{h}" fill="{color}"/><text x="{after:.1}" y="{y}">{value} {unit}</text>"#,
            x = LABEL - 8.0,
            y = top + 15.0,
            h = BAR - 6.0,
            color = COLORS[0],
            after = LABEL + width + 6.0,
            label = escape(label),
            value = rounded(*value),
        );
        top += BAR;
    }
    svg + "</svg>\n"
}

/// A line of a plot: its name and its points.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// Returns lines over a common horizontal axis. The vertical axis begins at zero.
pub(crate) fn lines(title: &str, horizontal: &str, unit: &str, lines: &[Line]) -> String {
    let (left, right, top, bottom) = (70.0, WIDTH - 20.0, 50.0, 270.0);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let largest = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(f64::MIN_POSITIVE, f64::max);
    let (last, highest) = (largest(|point| point.0), largest(|point| point.1) * 1.1);
    let mut svg = start(title, 320.0);
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let y = bottom - share * (bottom - top);
        let x = left + share * (right - left);
        let _ = write!(
            svg,
            r##"<path d="M{left} {y}H{right}" stroke="#ddd"/><text x="{before}" y="{text}" text-anchor="end">{value}</text><text x="{x}" y="288" text-anchor="middle">{time}</text>"##,
            before = left - 6.0,
            text = y + 4.0,
            value = rounded(share * highest),
            time = rounded(share * last),
        );
    }
    let _ = write!(
        svg,
        r#"<text x="{right}" y="308" text-anchor="end">{}</text><text x="10" y="42">{}</text>"#,
        escape(horizontal),
        escape(unit)
    );
    for (index, (name, points)) in lines.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let place =
            |(x, y): &(f64, f64)| format!("{:.1} {:.1}", left + x / last * (right - left), bottom - y / highest * (bottom - top));
        let path: Vec<_> = points.iter().map(place).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few lines")]
        let x = left + index as f64 * 165.0;
        let _ = write!(
            svg,
            r#"<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.5"/><rect x="{x}" y="296" width="12" height="12" fill="{color}"/><text x="{text}" y="307">{name}</text>"#,
            path = path.join("L"),
            text = x + 18.0,
            name = escape(name),
        );
    }
    svg + "</svg>\n"
}

fn start(title: &str, height: f64) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="10" y="22" font-size="15">{}</text>"#,
        escape(title)
    )
}

/// Returns a number with three digits that matter.
pub(crate) fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
