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
    implementation: String,
    best_ns: f64,
    ratio_to_floor: Option<f64>,
}

/// Rows whose names begin alike, on one axis.
struct Panel {
    title: &'static str,
    /// What the axis shows, as the numbers' unit.
    unit: &'static str,
    rows: Vec<(String, Vec<(usize, f64)>)>,
    implementations: Vec<String>,
}

const WIDTH: i32 = 1200;
/// Where the axis begins and ends.
const LEFT: i32 = 250;
const RIGHT: i32 = WIDTH - 90;
/// Height of one dot's line, and what is between two rows.
const LINE: i32 = 9;
const GAP: i32 = 8;
/// Height of a line of text in titles, legends and axes.
const TEXT: i32 = 18;
/// Legend entries side by side.
const COLUMNS: usize = 4;
const MARGIN: i32 = 24;

/// The kinds of rows by the first letter of their names; the page tables have many.
fn panel_of(row: &str) -> Option<(&'static str, &'static str)> {
    match row.split_once('.')?.0 {
        "floor" => None,
        "r" => Some(("Rings", "ns for each record")),
        "m" => Some((
            "Requests to map and unmap host memory",
            "ns for each request",
        )),
        "v" => Some((
            "Device addresses",
            "ns for freeing one block and allocating another",
        )),
        _ => Some(("Page tables", "times the floor")),
    }
}

fn panels(entries: &[Entry]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for entry in entries {
        let Some((title, unit)) = panel_of(&entry.row) else {
            continue;
        };
        let at = panels.iter().position(|panel| panel.title == title);
        let at = at.unwrap_or_else(|| {
            panels.push(Panel {
                title,
                unit,
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
        let value = entry.ratio_to_floor.unwrap_or(entry.best_ns);
        match panel.rows.iter_mut().find(|row| row.0 == entry.row) {
            Some(row) => row.1.push((implementation, value)),
            None => panel
                .rows
                .push((entry.row.clone(), vec![(implementation, value)])),
        }
    }
    panels
}

impl Panel {
    fn legend_lines(&self) -> i32 {
        self.implementations.len().div_ceil(COLUMNS) as i32
    }

    fn row_height(row: &[(usize, f64)]) -> i32 {
        row.len() as i32 * LINE + GAP
    }

    fn rows_height(&self) -> i32 {
        self.rows.iter().map(|row| Self::row_height(&row.1)).sum()
    }

    /// Title, legend, axis above and below, and the rows.
    fn height(&self) -> i32 {
        (3 + self.legend_lines()) * TEXT + self.rows_height() + 2 * MARGIN
    }

    /// The least and the greatest value of the axis, in powers of ten.
    fn decades(&self) -> (f64, f64) {
        let values = self.rows.iter().flat_map(|row| &row.1).map(|one| one.1);
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
    let title = format!("{}: {}", panel.title, panel.unit);
    text(area, (MARGIN, top + TEXT / 2), 18, HPos::Left, &title)?;
    for (number, name) in panel.implementations.iter().enumerate() {
        let x = MARGIN + (number % COLUMNS) as i32 * (WIDTH - MARGIN) / COLUMNS as i32;
        let y = top + TEXT + (number / COLUMNS) as i32 * TEXT + TEXT / 2;
        area.draw(&Circle::new((x + 4, y), 4, colour(number).filled()))?;
        text(area, (x + 14, y), 13, HPos::Left, name)?;
    }
    let (low, high) = panel.decades();
    let place = |value: f64| {
        let share = (value.log10() - low) / (high - low);
        LEFT + (share * f64::from(RIGHT - LEFT)) as i32
    };
    let axis = top + (2 + panel.legend_lines()) * TEXT;
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
    for (number, (row, values)) in panel.rows.iter().enumerate() {
        let height = Panel::row_height(values);
        if number % 2 == 0 {
            let corners = [
                (MARGIN, y - GAP / 2),
                (WIDTH - MARGIN, y + height - GAP / 2),
            ];
            let shade = RGBColor(0x30, 0x60, 0x90).mix(0.07).filled();
            area.draw(&Rectangle::new(corners, shade))?;
        }
        text(
            area,
            (LEFT - 10, y + (height - GAP) / 2),
            13,
            HPos::Right,
            row,
        )?;
        for (line, &(implementation, value)) in values.iter().enumerate() {
            let y = y + line as i32 * LINE + LINE / 2;
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
