//! Mappings one by one.

use super::super::hex::{Bytes, count};
use super::super::picture::{
    ALARM, Anchor, Area, Canvas, FAINT, INK, MARGIN, RULE, WAITING, WIDTH, colour, fitting,
    leaf_colour, light_colour,
};
use super::super::state::{MappingState, RangeState};
use super::content::{Content, Drawn};

/// Height of a lane.
const LANE: f64 = 19.0;
const SIZE: f64 = 11.0;
/// Where the bars begin and end, and the words.
const BARS: f64 = MARGIN + 134.0;
const LONGEST: f64 = 420.0;
/// The columns behind the bars: where lengths end, where the others begin.
const LENGTHS: f64 = BARS + LONGEST + 82.0;
const BACKINGS: f64 = LENGTHS + 14.0;
const LEAVES: f64 = BACKINGS + 100.0;
const MEMORY: f64 = LEAVES + 232.0;
/// The most strays that are told one by one.
const STRAYS: usize = 12;

/// Draws a lane for each mapping: address, bar as long as the logarithm of its length and parted
/// into its leaves, and in words what it is.
pub(super) fn draw(canvas: &mut Canvas, range: &RangeState, mappings: &[&Drawn<'_>]) {
    if mappings.is_empty() {
        canvas.row(11.0, FAINT, "nothing mapped");
        return;
    }
    let weight = |mapping: &MappingState| {
        let pages = mapping.extent.len as f64 / range.page_bytes.max(1) as f64;
        1.0 + pages.max(1.0).log2()
    };
    let heaviest = mappings
        .iter()
        .map(|drawn| weight(drawn.mapping))
        .fold(1.0, f64::max);
    for drawn in mappings {
        let length = LONGEST * weight(drawn.mapping) / heaviest;
        lane(canvas, range, drawn, length);
    }
    canvas.y += 4.0;
}

fn lane(canvas: &mut Canvas, range: &RangeState, drawn: &Drawn<'_>, length: f64) {
    let mapping = drawn.mapping;
    let y = canvas.y;
    let base = y + 13.5;
    canvas.text((MARGIN, base), SIZE, INK, &mapping.extent.start.to_string());
    let bar = Area::new(BARS, y + 3.0, length, LANE - 6.0);
    let len = Bytes(mapping.extent.len).to_string();
    let tip = format!("{} at {}, {len}", mapping.backing, mapping.extent.start);
    if mapping.is_gone() {
        canvas.rect_of(bar, WAITING, "mapping quarantined", &tip);
    } else {
        canvas.rect_of(bar, light_colour(mapping.backing), "mapping", &tip);
        draw_leaves(canvas, range, drawn, bar);
    }
    let (ink, outline) = match (drawn.is_wrong(), mapping.is_gone()) {
        (true, _) => (ALARM, ALARM),
        (false, true) => ("#9a5b00", WAITING),
        (false, false) => (INK, colour(mapping.backing)),
    };
    canvas.frame(bar, outline, if drawn.is_wrong() { 2.5 } else { 1.0 });
    canvas.text_at((LENGTHS, base), SIZE, ink, Anchor::End, &len);
    canvas.text((BACKINGS, base), SIZE, ink, &mapping.backing.to_string());
    let leaves = fitting(&leaf_words(drawn), SIZE, MEMORY - LEAVES - 8.0);
    canvas.text((LEAVES, base), SIZE, ink, &leaves);
    let memory = match drawn.first {
        Some(first) => format!("{} from {}", count(drawn.runs as u64, "run"), first.start),
        None => "no memory".to_owned(),
    };
    let memory = fitting(&memory, SIZE, WIDTH - MARGIN - MEMORY);
    canvas.text((MEMORY, base), SIZE, ink, &memory);
    canvas.y += LANE;
    canvas.line((MARGIN, canvas.y), (WIDTH - MARGIN, canvas.y), RULE, 0.4);
}

/// Each stretch of leaves of one size, as long as the logarithm of its share.
fn draw_leaves(canvas: &mut Canvas, range: &RangeState, drawn: &Drawn<'_>, bar: Area) {
    let backing = drawn.mapping.backing;
    let weight = |(size, number): &(u64, u64)| {
        let pages = (size * number) as f64 / range.page_bytes.max(1) as f64;
        1.0 + pages.max(1.0).log2()
    };
    let whole: f64 = drawn.leaves.iter().map(weight).sum();
    let mut x = bar.x;
    for stretch in &drawn.leaves {
        let width = bar.width * weight(stretch) / whole;
        let (size, number) = *stretch;
        let fill = leaf_colour(backing, size);
        let area = Area { x, width, ..bar };
        let tip = format!("{} of {}", count(number, "leaf"), Bytes(size));
        canvas.rect_of(area, fill, "leaves", &tip);
        // As many marks as there are leaves, while they can be told apart.
        if number > 1 && width / number as f64 >= 4.0 {
            for mark in 1..number {
                let at = x + width * mark as f64 / number as f64;
                let (top, bottom) = (bar.y, bar.y + bar.height);
                canvas.line((at, top), (at, bottom), "#ffffff", 0.8);
            }
        }
        x += width;
    }
}

/// The leaves of a mapping, or what is the matter with them.
fn leaf_words(drawn: &Drawn<'_>) -> String {
    if drawn.wrong > 0 {
        return format!("{} WRONG", count(drawn.wrong, "leaf").to_uppercase());
    }
    if drawn.missing > 0 {
        return format!("{} NOT IN THE TABLES", Bytes(drawn.missing));
    }
    if drawn.mapping.quarantined {
        return "unmapped, not invalidated".to_owned();
    }
    if drawn.mapping.lost {
        return "lost in a reset".to_owned();
    }
    let leaves = drawn.by_size().into_iter();
    let leaves = leaves.map(|(size, number)| format!("{number} x {}", Bytes(size.0)));
    leaves.collect::<Vec<_>>().join(" + ")
}

/// Tells of leaves that belong to no mapping.
pub(super) fn draw_strays(canvas: &mut Canvas, content: &Content<'_>) {
    for leaf in content.strays.iter().take(STRAYS) {
        let (start, bus) = (leaf.device.start, leaf.bus.start);
        let size = Bytes(leaf.device.len);
        let text = format!("{start}  LEAF OF {size} WITHOUT A MAPPING, leads to {bus}");
        canvas.row(11.0, ALARM, &text);
    }
    if let Some(more) = content
        .strays
        .len()
        .checked_sub(STRAYS)
        .filter(|more| *more > 0)
    {
        let text = format!("and {} more without a mapping", count(more as u64, "leaf"));
        canvas.row(11.0, ALARM, &text);
    }
}
