//! The map: a picture of the device addresses, free and used, and of what is behind them.

mod content;
mod dense;
mod lanes;
mod strip;

use core::cmp::Reverse;
use std::collections::BTreeMap;

use super::hex::{Bytes, count, grouped};
use super::picture::{
    ALARM, Canvas, Chart, FAINT, FREE, INK, INNER, MARGIN, RESERVED, RULE, TABLE, WAITING, WIDTH,
    colour, is_large, leaf_colour, light_colour,
};
use super::state::{Backing, State};
use content::Content;

/// Up to so many mappings of a range are drawn one by one.
const ONE_BY_ONE: usize = 40;

impl State {
    /// Draws the address spaces as SVG: each range with its free and used extents; each mapping with
    /// its leaves and what is behind it, or where they are many the density of them; the page
    /// tables of each hop.
    #[must_use]
    pub fn map(&self) -> String {
        let mut canvas = Canvas::new();
        let contents: Vec<Content<'_>> = self
            .spaces
            .iter()
            .map(|space| Content::of(self, space))
            .collect();
        canvas.row(
            18.0,
            INK,
            &format!("Map of device addresses: {}", self.title),
        );
        let mappings: u64 = contents
            .iter()
            .map(|content| content.mappings.len() as u64)
            .sum();
        let bytes: u64 = contents.iter().map(Content::bytes).sum();
        canvas.row(
            12.0,
            FAINT,
            &format!(
                "{}, {}, {} mapping {}, {} in memory",
                self.asic.kind,
                count(self.spaces.len() as u64, "address space"),
                count(mappings, "mapping"),
                Bytes(bytes),
                count(self.tables.len() as u64, "page table"),
            ),
        );
        legend(&mut canvas, &contents);
        for content in &contents {
            draw_space(&mut canvas, content);
        }
        canvas.finish()
    }
}

fn legend(canvas: &mut Canvas, contents: &[Content<'_>]) {
    let mut entries: Vec<(&str, String)> = Vec::new();
    let drawn = || contents.iter().flat_map(|content| &content.mappings);
    let leaves = |backing| {
        let of = move |drawn: &&content::Drawn<'_>| drawn.mapping.backing == backing;
        drawn().filter(of).flat_map(|drawn| &drawn.leaves)
    };
    for backing in Backing::ALL {
        if leaves(backing).any(|(size, _)| is_large(*size)) {
            entries.push((colour(backing), format!("{backing}, large leaves")));
        }
        if leaves(backing).any(|(size, _)| !is_large(*size)) {
            entries.push((light_colour(backing), format!("{backing}, small leaves")));
        }
    }
    entries.push((FREE, "free".to_owned()));
    entries.push((RESERVED, "window for hints or the driver".to_owned()));
    let held = match drawn().any(|drawn| drawn.mapping.lost) {
        true => "unmapped, held until invalidated; or lost in a reset",
        false => "unmapped, held until invalidated",
    };
    entries.push((WAITING, held.to_owned()));
    entries.push((ALARM, "tables and driver differ".to_owned()));
    canvas.legend(&entries);
}

fn draw_space(canvas: &mut Canvas, content: &Content<'_>) {
    canvas.y += 8.0;
    canvas.line((MARGIN, canvas.y), (WIDTH - MARGIN, canvas.y), INK, 1.0);
    canvas.y += 8.0;
    let space = content.space;
    canvas.row(
        15.0,
        INK,
        &format!(
            "asid {}, {}: {}, {}",
            space.asid,
            space.owner,
            count(content.mappings.len() as u64, "mapping"),
            Bytes(content.bytes())
        ),
    );
    match content.complaint() {
        None => canvas.row(12.0, FAINT, "tables and driver agree"),
        Some(complaint) => canvas.row(
            12.0,
            ALARM,
            &format!("TABLES AND DRIVER DIFFER: {complaint}"),
        ),
    }
    for range in &space.ranges {
        let mappings = content.inside(range);
        strip::draw(canvas, range, &mappings);
        if mappings.len() > ONE_BY_ONE {
            dense::draw(canvas, range, &mappings);
        } else {
            lanes::draw(canvas, range, &mappings);
        }
    }
    lanes::draw_strays(canvas, content);
    draw_charts(canvas, content);
}

/// The numbers of a space: lengths, leaves, memory, tables.
fn draw_charts(canvas: &mut Canvas, content: &Content<'_>) {
    const GAP: f64 = 24.0;
    let width = (INNER - 3.0 * GAP) / 4.0;
    let mut charts = Vec::new();
    if !content.mappings.is_empty() {
        charts.push(lengths(content));
        charts.push(leaves(content));
        charts.push(backings(content));
    }
    charts.push(tables(content));
    canvas.y += 10.0;
    let mut end = canvas.y;
    for (column, chart) in charts.iter().enumerate() {
        let x = MARGIN + column as f64 * (width + GAP);
        end = end.max(chart.draw(canvas, x, canvas.y, width));
    }
    canvas.y = end + 8.0;
    canvas.line((MARGIN, canvas.y), (WIDTH - MARGIN, canvas.y), RULE, 0.5);
}

fn bars(
    values: impl Iterator<Item = (String, u64, &'static str, String)>,
) -> Vec<(String, f64, &'static str, String)> {
    let values: Vec<_> = values.collect();
    let most = values
        .iter()
        .map(|(_, value, ..)| *value)
        .max()
        .unwrap_or(1)
        .max(1);
    let share = |value: u64| value as f64 / most as f64;
    let bar = |(label, value, fill, told): (String, u64, &'static str, String)| {
        (label, share(value), fill, told)
    };
    values.into_iter().map(bar).collect()
}

fn lengths(content: &Content<'_>) -> Chart<'static> {
    let mut lengths: BTreeMap<u32, u64> = BTreeMap::new();
    for drawn in &content.mappings {
        *lengths
            .entry(drawn.mapping.extent.len.max(1).ilog2())
            .or_default() += 1;
    }
    let bar = |(power, number): (u32, u64)| {
        (
            format!("from {}", Bytes(1 << power)),
            number,
            FAINT,
            grouped(number),
        )
    };
    Chart {
        heading: "mappings by length",
        bars: bars(lengths.into_iter().map(bar)),
    }
}

fn leaves(content: &Content<'_>) -> Chart<'static> {
    let mut sizes: BTreeMap<(Reverse<u64>, Backing), u64> = BTreeMap::new();
    for drawn in &content.mappings {
        for (size, number) in drawn.by_size() {
            *sizes.entry((size, drawn.mapping.backing)).or_default() += number;
        }
    }
    let bar = |((Reverse(size), backing), number): ((Reverse<u64>, Backing), u64)| {
        let fill = leaf_colour(backing, size);
        let bytes = Bytes(size.saturating_mul(number)).to_string();
        (
            Bytes(size).to_string(),
            number,
            fill,
            format!("{} = {bytes}", grouped(number)),
        )
    };
    Chart {
        heading: "leaves by size",
        bars: bars(sizes.into_iter().map(bar)),
    }
}

fn backings(content: &Content<'_>) -> Chart<'static> {
    let mut backings: BTreeMap<Backing, (u64, u64)> = BTreeMap::new();
    for drawn in &content.mappings {
        let (number, bytes) = backings.entry(drawn.mapping.backing).or_default();
        *number += 1;
        *bytes += drawn.mapping.extent.len;
    }
    let bar = |(backing, (number, bytes)): (Backing, (u64, u64))| {
        let told = format!("{} = {}", grouped(number), Bytes(bytes));
        (backing.to_string(), number, colour(backing), told)
    };
    Chart {
        heading: "mappings by what is behind them",
        bars: bars(backings.into_iter().map(bar)),
    }
}

fn tables(content: &Content<'_>) -> Chart<'static> {
    let hops = content.tables.iter().flat_map(|(mmu, hops)| {
        hops.iter().map(move |(hop, here)| {
            let told = format!(
                "{}: {} of {}",
                grouped(here.tables),
                grouped(here.present),
                grouped(here.entries)
            );
            (format!("{mmu} hop {hop}"), here.tables, TABLE, told)
        })
    });
    Chart {
        heading: "page tables by hop: entries in use",
        bars: bars(hops),
    }
}
