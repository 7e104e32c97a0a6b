//! What all pictures share: colours, letters whose width is known, and the paper.

use svg::node::element::{Line, Rectangle, Style, Text, Title};
use svg::{Document, Node};

use super::state::Backing;

/// Pixels from the picture's edge to anything.
pub(crate) const MARGIN: f64 = 28.0;
/// Pixels of every picture's width.
pub(crate) const WIDTH: f64 = 1360.0;
/// Pixels between the margins.
pub(crate) const INNER: f64 = WIDTH - 2.0 * MARGIN;

/// What is ordinary text.
pub(crate) const INK: &str = "#1f2933";
/// What explains the rest.
pub(crate) const FAINT: &str = "#66727f";
/// Lines that guide the eye.
pub(crate) const RULE: &str = "#d5dbe1";
/// Free addresses.
pub(crate) const FREE: &str = "#eef1f4";
/// Addresses that are kept for hints, or for the driver itself.
pub(crate) const RESERVED: &str = "#c9d1d9";
/// Page tables.
pub(crate) const TABLE: &str = "#b58b3f";
/// What the device may still reach though it is unmapped.
pub(crate) const WAITING: &str = "#f2a33a";
/// What must not be.
pub(crate) const ALARM: &str = "#d7263d";
/// What is done.
pub(crate) const DONE: &str = "#2b8a3e";

/// The colour of memory.
pub(crate) const fn colour(backing: Backing) -> &'static str {
    match backing {
        Backing::UserPages => "#2f7fbf",
        Backing::Block => "#8457a8",
        Backing::Buffer => "#b0568f",
        Backing::DeviceMemory => "#2d9d83",
        Backing::Window => "#5d6b2f",
        Backing::Other => "#7b8794",
    }
}

/// The same for leaves of the smallest size, of which there are many.
pub(crate) const fn light_colour(backing: Backing) -> &'static str {
    match backing {
        Backing::UserPages => "#9cc7e8",
        Backing::Block => "#cdb4e0",
        Backing::Buffer => "#e3bfd6",
        Backing::DeviceMemory => "#a0dccd",
        Backing::Window => "#c8d09f",
        Backing::Other => "#cbd2d9",
    }
}

/// Whether leaves of so many bytes are large ones.
pub(crate) const fn is_large(leaf: u64) -> bool {
    leaf >= 1 << 20
}

/// The colour of leaves of so many bytes.
pub(crate) const fn leaf_colour(backing: Backing, leaf: u64) -> &'static str {
    if is_large(leaf) {
        colour(backing)
    } else {
        light_colour(backing)
    }
}

/// On which side of its place a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A place and a size, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    pub(crate) const fn new(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self {
            x,
            y,
            width,
            height,
        }
    }
}

/// A picture being drawn. It grows downwards.
#[derive(Debug)]
pub(crate) struct Canvas {
    nodes: Vec<Box<dyn Node>>,
    /// Where the next thing below goes.
    pub(crate) y: f64,
}

/// Letters of one size are equally wide in every font that the pictures name.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.602
}

/// The beginning of a text that is no wider than `width`.
pub(crate) fn fitting(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let letters = (width / (size * 0.602)).floor() as usize;
    let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    format!("{kept}…")
}

impl Canvas {
    pub(crate) fn new() -> Self {
        let style = "text { font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; }";
        Self {
            nodes: vec![Style::new(style).into()],
            y: MARGIN,
        }
    }

    /// Draws a filled rectangle; `class` and `data` are for programs that read the picture.
    pub(crate) fn rect(&mut self, area: Area, fill: &str) {
        self.draw(Self::rectangle(area, fill));
    }

    /// Draws a filled rectangle that says more to whoever points at it, or reads the picture.
    pub(crate) fn rect_of(&mut self, area: Area, fill: &str, class: &str, tip: &str) {
        let rectangle = Self::rectangle(area, fill).set("class", class);
        self.draw(rectangle.add(Title::new(tip)));
    }

    /// The same, with something of what is below shining through.
    pub(crate) fn shade(&mut self, area: Area, fill: &str, opacity: f64, class: &str, tip: &str) {
        let rectangle = Self::rectangle(area, fill)
            .set("fill-opacity", opacity)
            .set("class", class);
        self.draw(rectangle.add(Title::new(tip)));
    }

    /// The same for whatever needs no words.
    pub(crate) fn tint(&mut self, area: Area, fill: &str, opacity: f64) {
        self.draw(Self::rectangle(area, fill).set("fill-opacity", opacity));
    }

    /// Draws the outline of a rectangle.
    pub(crate) fn frame(&mut self, area: Area, stroke: &str, width: f64) {
        self.draw(
            Self::rectangle(area, "none")
                .set("stroke", stroke)
                .set("stroke-width", width),
        );
    }

    fn rectangle(area: Area, fill: &str) -> Rectangle {
        Rectangle::new()
            .set("x", pixels(area.x))
            .set("y", pixels(area.y))
            .set("width", pixels(area.width.max(0.0)))
            .set("height", pixels(area.height.max(0.0)))
            .set("fill", fill)
    }

    /// Draws a line.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        let line = Line::new()
            .set("x1", pixels(from.0))
            .set("y1", pixels(from.1))
            .set("x2", pixels(to.0))
            .set("y2", pixels(to.1))
            .set("stroke", stroke)
            .set("stroke-width", width);
        self.draw(line);
    }

    /// Writes a text whose letters stand on `place`.
    pub(crate) fn text(&mut self, place: (f64, f64), size: f64, fill: &str, text: &str) {
        self.text_at(place, size, fill, Anchor::Start, text);
    }

    /// Writes a text on either side of a place.
    pub(crate) fn text_at(
        &mut self,
        place: (f64, f64),
        size: f64,
        fill: &str,
        anchor: Anchor,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let node = Text::new(text)
            .set("x", pixels(place.0))
            .set("y", pixels(place.1))
            .set("font-size", size)
            .set("text-anchor", anchor)
            .set("fill", fill);
        self.draw(node);
    }

    /// Writes a line of its own and goes on below it.
    pub(crate) fn row(&mut self, size: f64, fill: &str, text: &str) {
        let text = fitting(text, size, INNER);
        self.y += size;
        self.text((MARGIN, self.y), size, fill, &text);
        self.y += size * 0.55;
    }

    /// Writes a row of colours and what they mean, in as many lines as it takes.
    pub(crate) fn legend(&mut self, entries: &[(&str, String)]) {
        const SIZE: f64 = 11.0;
        let mut x = MARGIN;
        self.y += 4.0;
        for (fill, meaning) in entries {
            let width = 16.0 + text_width(meaning, SIZE) + 18.0;
            if x + width > WIDTH - MARGIN {
                x = MARGIN;
                self.y += 17.0;
            }
            self.rect(Area::new(x, self.y, 11.0, 11.0), fill);
            self.text((x + 16.0, self.y + 9.5), SIZE, INK, meaning);
            x += width;
        }
        self.y += 25.0;
    }

    fn draw(&mut self, node: impl Into<Box<dyn Node>>) {
        self.nodes.push(node.into());
    }

    /// The picture as SVG.
    pub(crate) fn finish(self) -> String {
        let height = self.y + MARGIN;
        let paper = Rectangle::new()
            .set("width", pixels(WIDTH))
            .set("height", pixels(height))
            .set("fill", "#ffffff");
        let mut document = Document::new()
            .set(
                "viewBox",
                format!("0 0 {} {}", pixels(WIDTH), pixels(height)),
            )
            .set("width", pixels(WIDTH))
            .set("height", pixels(height))
            .add(paper);
        for node in self.nodes {
            document.append(node);
        }
        document.to_string()
    }
}

/// A number of pixels, no finer than anybody sees.
fn pixels(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A horizontal bar chart in a column.
pub(crate) struct Chart<'a> {
    pub(crate) heading: &'a str,
    /// Label, share of the longest bar from 0 to 1, colour, what stands behind the bar.
    pub(crate) bars: Vec<(String, f64, &'static str, String)>,
}

impl Chart<'_> {
    pub(crate) const ROW: f64 = 15.0;

    /// Draws it; returns where it ends.
    pub(crate) fn draw(&self, canvas: &mut Canvas, x: f64, y: f64, width: f64) -> f64 {
        const SIZE: f64 = 10.0;
        let heading = fitting(self.heading, 11.0, width);
        canvas.text((x, y + 11.0), 11.0, INK, &heading);
        let labels = self.bars.iter().map(|(label, ..)| text_width(label, SIZE));
        let label_width = labels.fold(0.0, f64::max).min(width / 3.0);
        let values = self.bars.iter().map(|(.., value)| text_width(value, SIZE));
        let value_width = values.fold(0.0, f64::max).min(width / 2.0);
        let longest = (width - label_width - value_width - 16.0).max(8.0);
        let mut at = y + 18.0;
        for (label, share, fill, value) in &self.bars {
            let label = fitting(label, SIZE, label_width);
            canvas.text((x, at + 10.0), SIZE, INK, &label);
            let bar = (share.clamp(0.0, 1.0) * longest).max(1.0);
            let left = x + label_width + 6.0;
            canvas.rect(Area::new(left, at + 2.0, bar, 10.0), fill);
            let value = fitting(value, SIZE, value_width);
            canvas.text((left + bar + 5.0, at + 10.0), SIZE, FAINT, &value);
            at += Self::ROW;
        }
        at
    }
}
