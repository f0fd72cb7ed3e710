//! A picture of a few lines over steps, the values by their logarithm. Legible
//! on white and on black.

use std::fmt::Write;

/// One of the lines.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    /// Above 0, one for each step.
    pub(super) values: Vec<f64>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 72.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 76.0;

/// What is drawn in the colour of text follows what the reader prefers.
const STYLE: &str = "\
text { font: 13px sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: bold; }
.faint { fill: #59636e; }
.grid { stroke: #59636e; stroke-opacity: 0.25; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .faint { fill: #9198a1; }
  .grid { stroke: #9198a1; }
}";

/// The picture. Each step has two lines of text below it.
pub(super) fn draw(
    title: &str,
    unit: &str,
    below: &str,
    steps: &[(String, String)],
    lines: &[Line],
) -> String {
    let scale = Scale::of(steps.len(), lines);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n"
    );
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    text(&mut svg, "title", "start", LEFT, 22.0, title);
    text(&mut svg, "faint", "end", LEFT - 8.0, TOP - 8.0, unit);
    for value in scale.grid() {
        let y = scale.y(value);
        let end = WIDTH - RIGHT;
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" \
             x2=\"{end}\" y2=\"{y:.1}\"/>"
        )
        .unwrap();
        let number = value.to_string();
        text(&mut svg, "faint", "end", LEFT - 8.0, y + 4.0, &number);
    }
    let foot = HEIGHT - BOTTOM;
    for (n, (first, second)) in steps.iter().enumerate() {
        let x = scale.x(n);
        text(&mut svg, "", "middle", x, foot + 20.0, first);
        text(&mut svg, "faint", "middle", x, foot + 38.0, second);
    }
    text(&mut svg, "faint", "middle", middle, foot + 62.0, below);
    for line in lines {
        line.draw(&mut svg, &scale);
    }
    svg.push_str("</svg>\n");
    svg
}

impl Line {
    fn draw(&self, svg: &mut String, scale: &Scale) {
        let color = self.color;
        let points: Vec<(f64, f64)> = self
            .values
            .iter()
            .enumerate()
            .map(|(n, value)| (scale.x(n), scale.y(*value)))
            .collect();
        let path: Vec<String> =
            points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" \
             points=\"{}\"/>",
            path.join(" ")
        )
        .unwrap();
        for ((x, y), value) in points.iter().zip(&self.values) {
            writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" \
                 fill=\"{color}\"><title>{value:.1}</title></circle>"
            )
            .unwrap();
        }
        if let Some((x, y)) = points.last() {
            text(svg, "", "start", x + 10.0, y + 4.0, self.name);
        }
    }
}

fn text(svg: &mut String, class: &str, at: &str, x: f64, y: f64, text: &str) {
    writeln!(
        svg,
        "<text class=\"{class}\" text-anchor=\"{at}\" x=\"{x:.1}\" \
         y=\"{y:.1}\">{text}</text>"
    )
    .unwrap();
}

/// Where what is.
struct Scale {
    steps: f64,
    low: f64,
    high: f64,
}

impl Scale {
    /// From the power of ten below all values to the first of 1, 2 and 5 times
    /// one that is above them.
    fn of(steps: usize, lines: &[Line]) -> Scale {
        let values = || lines.iter().flat_map(|line| line.values.iter());
        let least = values().copied().fold(f64::INFINITY, f64::min);
        let most = values().copied().fold(0.0, f64::max);
        let low = 10f64.powf(least.log10().floor());
        let high = grid_from(low).find(|value| *value >= most);
        let steps = crate::figures::count(steps);
        Scale { steps, low, high: high.unwrap_or(most) }
    }

    fn grid(&self) -> impl Iterator<Item = f64> {
        let high = self.high;
        grid_from(self.low).take_while(move |value| *value <= high)
    }

    fn x(&self, step: usize) -> f64 {
        let width = WIDTH - LEFT - RIGHT;
        LEFT + width * (crate::figures::count(step) + 0.5) / self.steps
    }

    fn y(&self, value: f64) -> f64 {
        let height = HEIGHT - TOP - BOTTOM;
        let share = (value / self.low).log10() / (self.high / self.low).log10();
        TOP + height * (1.0 - share)
    }
}

/// 1, 2, 5, 10, 20, … times `low`; no further than anybody waits.
fn grid_from(low: f64) -> impl Iterator<Item = f64> {
    (0..8).flat_map(move |tens| {
        [1.0, 2.0, 5.0].map(|times| times * low * 10f64.powi(tens))
    })
}
