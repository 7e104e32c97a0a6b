//! Draws results as an SVG: a panel for each kind of measurement, a band for each row, and in it a
//! dot for each implementation.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

/// One JSON object of the results; what the plot does not show is left out.
#[derive(Deserialize, Debug)]
pub(crate) struct Entry {
    row: String,
    /// What the row is about; results that an earlier version wrote have the short name alone.
    #[serde(default)]
    title: String,
    implementation: String,
    best_ns: f64,
    ratio_to_floor: Option<f64>,
}

/// What the rows of a panel have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    title: &'static str,
    /// What the axis shows, as the numbers' unit.
    unit: &'static str,
    /// What a bar shows, in lines.
    says: &'static [&'static str],
}

/// Values of a row, each with the number of its implementation.
type Values = Vec<(usize, f64)>;

struct Row {
    name: String,
    title: String,
    values: Values,
}

/// Rows of one kind, on one axis.
struct Panel {
    kind: Kind,
    rows: Vec<Row>,
    implementations: Vec<String>,
}

const WIDTH: i32 = 1200;
/// Where the axis begins and ends.
const LEFT: i32 = 40;
const RIGHT: i32 = WIDTH - 90;
/// Height of one dot's line, and what is between two rows.
const LINE: i32 = 9;
const GAP: i32 = 8;
/// Height of a line of text in titles, legends and axes.
const TEXT: i32 = 18;
/// Legend entries side by side.
const COLUMNS: usize = 4;
const MARGIN: i32 = 24;

const AXIS: &str = "The axis is logarithmic and begins at a power of ten: where a bar ends counts, not how long it is. \
                    Further left is faster.";

const TABLES: Kind = Kind {
    title: "Page tables",
    unit: "times the floor",
    says: &[
        "The floor is what it costs to store an 8-byte word for each leaf into the memory of the tables: a plain loop \
         of volatile stores, measured in the same rounds.",
        "A bar shows the best time of all rounds for each leaf (or each query, or each pair of map and unmap), divided \
         by the best time of the floor for each store: 1 is as fast as the stores alone.",
        AXIS,
    ],
};

const RINGS: Kind = Kind {
    title: "Rings",
    unit: "ns for each record",
    says: &[
        "A bar shows the best time of all rounds for each record that is pushed and popped.",
        AXIS,
    ],
};

const REQUESTS: Kind = Kind {
    title: "Requests to map and unmap host memory",
    unit: "ns for each request",
    says: &[
        "A bar shows the best time of all rounds for each request: pinning, device addresses, page tables, the MMU and \
         the rest.",
        AXIS,
    ],
};

const ADDRESSES: Kind = Kind {
    title: "Device addresses",
    unit: "ns for each replacement",
    says: &[
        "A bar shows the best time of all rounds for freeing one block and allocating another.",
        AXIS,
    ],
};

/// The kinds of rows by the first letter of their names; the page tables have many.
fn kind_of(row: &str) -> Option<Kind> {
    match row.split_once('.')?.0 {
        "floor" => None,
        "r" => Some(RINGS),
        "m" => Some(REQUESTS),
        "v" => Some(ADDRESSES),
        _ => Some(TABLES),
    }
}

fn panels(entries: &[Entry]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for entry in entries {
        let Some(kind) = kind_of(&entry.row) else {
            continue;
        };
        let at = panels.iter().position(|panel| panel.kind == kind);
        let at = at.unwrap_or_else(|| {
            panels.push(Panel {
                kind,
                rows: Vec::new(),
                implementations: Vec::new(),
            });
            panels.len() - 1
        });
        let panel = &mut panels[at];
        let known = |name: &String| *name == entry.implementation;
        let implementation = panel.implementations.iter().position(known);
        let implementation = implementation.unwrap_or_else(|| {
            panel.implementations.push(entry.implementation.clone());
            panel.implementations.len() - 1
        });
        let value = (
            implementation,
            entry.ratio_to_floor.unwrap_or(entry.best_ns),
        );
        match panel.rows.iter_mut().find(|row| row.name == entry.row) {
            Some(row) => row.values.push(value),
            None => panel.rows.push(Row {
                name: entry.row.clone(),
                title: entry.title.clone(),
                values: vec![value],
            }),
        }
    }
    panels
}

impl Row {
    /// A line that says what it is, and one for each value.
    fn height(&self) -> i32 {
        TEXT + self.values.len() as i32 * LINE + GAP
    }
}

impl Panel {
    fn legend_lines(&self) -> i32 {
        self.implementations.len().div_ceil(COLUMNS) as i32
    }

    fn rows_height(&self) -> i32 {
        self.rows.iter().map(Row::height).sum()
    }

    /// Lines of text above the axis: the title, what a bar shows, the legend.
    fn head_lines(&self) -> i32 {
        1 + self.kind.says.len() as i32 + self.legend_lines()
    }

    /// What is above, axis above and below, and the rows.
    fn height(&self) -> i32 {
        (2 + self.head_lines()) * TEXT + self.rows_height() + 2 * MARGIN
    }

    /// The least and the greatest value of the axis, in powers of ten.
    fn decades(&self) -> (f64, f64) {
        let values = self.rows.iter().flat_map(|row| &row.values);
        let values = values.map(|one| one.1);
        let values = values.filter(|value| *value > 0.0);
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let low = low.log10().floor();
        (low, high.log10().max(low + 0.1))
    }
}

/// A colour that differs from those of the other implementations of a panel.
fn colour(number: usize) -> RGBColor {
    const COLOURS: [RGBColor; 10] = [
        RGBColor(0x1F, 0x77, 0xB4),
        RGBColor(0xFF, 0x7F, 0x0E),
        RGBColor(0x2C, 0xA0, 0x2C),
        RGBColor(0xD6, 0x27, 0x28),
        RGBColor(0x94, 0x67, 0xBD),
        RGBColor(0x8C, 0x56, 0x4B),
        RGBColor(0xE3, 0x77, 0xC2),
        RGBColor(0x7F, 0x7F, 0x7F),
        RGBColor(0xBC, 0xBD, 0x22),
        RGBColor(0x17, 0xBE, 0xCF),
    ];
    COLOURS[number % COLOURS.len()]
}

/// A number with three digits that count.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn text(
    area: &Area<'_>,
    at: (i32, i32),
    size: i32,
    align: HPos,
    what: &str,
) -> Result<(), Box<dyn Error>> {
    let style = TextStyle::from(("sans-serif", size)).pos(Pos::new(align, VPos::Center));
    area.draw(&Text::new(what.to_owned(), at, style))?;
    Ok(())
}

fn draw_panel(area: &Area<'_>, top: i32, panel: &Panel) -> Result<(), Box<dyn Error>> {
    let title = format!("{}: {}", panel.kind.title, panel.kind.unit);
    text(area, (MARGIN, top + TEXT / 2), 18, HPos::Left, &title)?;
    let mut legend = top + TEXT;
    for line in panel.kind.says {
        text(area, (MARGIN, legend + TEXT / 2), 12, HPos::Left, line)?;
        legend += TEXT;
    }
    for (number, name) in panel.implementations.iter().enumerate() {
        let x = MARGIN + (number % COLUMNS) as i32 * (WIDTH - MARGIN) / COLUMNS as i32;
        let y = legend + (number / COLUMNS) as i32 * TEXT + TEXT / 2;
        area.draw(&Circle::new((x + 4, y), 4, colour(number).filled()))?;
        text(area, (x + 14, y), 13, HPos::Left, name)?;
    }
    let (low, high) = panel.decades();
    let place = |value: f64| {
        let share = (value.log10() - low) / (high - low);
        LEFT + (share * f64::from(RIGHT - LEFT)) as i32
    };
    let axis = top + (1 + panel.head_lines()) * TEXT;
    let bottom = axis + panel.rows_height() + GAP;
    for decade in low as i32..=high as i32 {
        for (factor, grey) in [(1.0, 0xA0), (2.0, 0xDC), (5.0, 0xDC)] {
            let value = factor * 10_f64.powi(decade);
            if value.log10() > high {
                continue;
            }
            let x = place(value);
            let line = RGBColor(grey, grey, grey);
            area.draw(&PathElement::new(vec![(x, axis), (x, bottom)], line))?;
            for y in [axis - TEXT / 2, bottom + TEXT / 2] {
                text(area, (x, y), 11, HPos::Center, &short(value))?;
            }
        }
    }
    let mut y = axis + GAP;
    for (number, row) in panel.rows.iter().enumerate() {
        let height = row.height();
        if number % 2 == 0 {
            let corners = [
                (MARGIN, y - GAP / 2),
                (WIDTH - MARGIN, y + height - GAP / 2),
            ];
            let shade = RGBColor(0x30, 0x60, 0x90).mix(0.07).filled();
            area.draw(&Rectangle::new(corners, shade))?;
        }
        let middle = y + TEXT / 2;
        let (title, name) = match row.title.as_str() {
            "" => (&row.name, ""),
            _ => (&row.title, row.name.as_str()),
        };
        text(area, (LEFT, middle), 13, HPos::Left, title)?;
        text(area, (WIDTH - MARGIN - 6, middle), 11, HPos::Right, name)?;
        for (line, &(implementation, value)) in row.values.iter().enumerate() {
            let y = y + TEXT + line as i32 * LINE + LINE / 2;
            if value <= 0.0 {
                continue;
            }
            let (x, colour) = (place(value), colour(implementation));
            area.draw(&PathElement::new(vec![(LEFT, y), (x, y)], colour.mix(0.5)))?;
            area.draw(&Circle::new((x, y), 3, colour.filled()))?;
            text(area, (x + 7, y), 9, HPos::Left, &short(value))?;
        }
        y += height;
    }
    Ok(())
}

/// Draws the results in `json`, as this program writes them, into `file`.
pub(crate) fn draw(json: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let entries: Vec<Entry> = serde_json::from_str(json)?;
    let panels = panels(&entries);
    let height: i32 = MARGIN + panels.iter().map(Panel::height).sum::<i32>();
    let area = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut top = MARGIN;
    for panel in &panels {
        draw_panel(&area, top, panel)?;
        top += panel.height();
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_says_what_a_bar_and_a_row_are() {
        let json = r#"[
            {"row": "floor.stores", "title": "volatile stores", "implementation": "floor", "best_ns": 1.0, "ratio_to_floor": 1.0},
            {"row": "a.map", "title": "map a page", "implementation": "one", "best_ns": 3.0, "ratio_to_floor": 2.5},
            {"row": "r.ring", "title": "pass a record", "implementation": "two", "best_ns": 30.0},
            {"row": "v.old", "implementation": "three", "best_ns": 7.0}
        ]"#;
        let file = std::env::temp_dir().join(format!("hl-bench-{}.svg", std::process::id()));
        draw(json, &file).expect("it is drawn");
        let picture = std::fs::read_to_string(&file).expect("it is there");
        std::fs::remove_file(&file).expect("it was made here");
        for text in [
            "map a page",
            "pass a record",
            "a.map",
            "v.old",
            "The floor is what it costs",
            "A bar shows the best time of all rounds for each record",
        ] {
            assert!(picture.contains(text), "there is no {text:?} in it");
        }
        assert!(!picture.contains("volatile stores<"), "the floor is no row");
    }
}
