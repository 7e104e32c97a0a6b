//! A range of device addresses from end to end.

use super::super::hex::{Bytes, count};
use super::super::picture::{
    ALARM, Anchor, Area, Canvas, FAINT, FREE, INK, INNER, MARGIN, RESERVED, RULE, WAITING, WIDTH,
    colour, text_width,
};
use super::super::state::{Extent, RangeState};
use super::content::{Cluster, Drawn, clusters};

/// A piece of the strip.
struct Piece {
    extent: Extent,
    fill: &'static str,
    word: &'static str,
    class: &'static str,
}

/// Draws the heading of a range, the range true to scale, and the range with each of its pieces as
/// wide as the logarithm of its length.
pub(super) fn draw(canvas: &mut Canvas, range: &RangeState, mappings: &[&Drawn<'_>]) {
    let used = range.extent.len.saturating_sub(range.free_bytes());
    let fixed: u64 = range.fixed.iter().map(|fixed| fixed.len).sum();
    canvas.y += 8.0;
    canvas.row(
        12.5,
        INK,
        &format!(
            "{}: {} of {} used, {}, pages of {}",
            range.name,
            Bytes(used.saturating_sub(fixed)),
            Bytes(range.extent.len),
            count(range.free.len() as u64, "free extent"),
            Bytes(range.page_bytes),
        ),
    );
    let (first, last) = ends(&range.extent);
    canvas.y += 10.0;
    canvas.text((MARGIN, canvas.y), 10.0, FAINT, &first);
    let place = (MARGIN + INNER / 2.0, canvas.y);
    canvas.text_at(place, 10.0, FAINT, Anchor::Middle, "true to scale");
    canvas.text_at((WIDTH - MARGIN, canvas.y), 10.0, FAINT, Anchor::End, &last);
    canvas.y += 4.0;
    true_to_scale(canvas, range, mappings);
    by_logarithm(canvas, range, &clusters(mappings));
}

fn ends(extent: &Extent) -> (String, String) {
    let last = extent.end().saturating_sub(1);
    (extent.start.to_string(), format!("{last:#018x}"))
}

fn true_to_scale(canvas: &mut Canvas, range: &RangeState, mappings: &[&Drawn<'_>]) {
    const HEIGHT: f64 = 7.0;
    let y = canvas.y;
    let whole = range.extent.len as f64;
    let place = |extent: &Extent| {
        let from = extent.start.offset_from(range.extent.start).unwrap_or(0);
        let x = MARGIN + INNER * (from as f64 / whole);
        let width = INNER * (extent.len as f64 / whole);
        // A mapping of any length is to be seen, also at the very end.
        let width = width.clamp(1.5, INNER);
        Area::new(x.min(WIDTH - MARGIN - width), y, width, HEIGHT)
    };
    canvas.rect(Area::new(MARGIN, y, INNER, HEIGHT), FREE);
    for window in range.reserved.iter().chain(&range.fixed) {
        canvas.rect(place(window), RESERVED);
    }
    let mut end = f64::MIN;
    for drawn in mappings {
        let area = place(&drawn.mapping.extent);
        // Of many at one place, one is enough.
        if area.x + area.width > end + 0.5 || drawn.is_wrong() {
            end = area.x + area.width;
            let fill = if drawn.is_wrong() {
                ALARM
            } else {
                colour(drawn.mapping.backing)
            };
            canvas.rect(area, fill);
        }
    }
    canvas.frame(Area::new(MARGIN, y, INNER, HEIGHT), RULE, 0.5);
    canvas.y += HEIGHT + 6.0;
}

/// The pieces of a range in ascending order: clusters of mappings, windows, free extents, and what
/// is neither free nor mapped.
fn pieces(range: &RangeState, clusters: &[Cluster<'_, '_>]) -> Vec<Piece> {
    let mut taken: Vec<Piece> = Vec::new();
    for cluster in clusters {
        let mapping = cluster.mappings.first().map(|drawn| drawn.mapping);
        let fill = if cluster.mappings.iter().any(|drawn| drawn.is_wrong()) {
            ALARM
        } else if cluster.mappings.iter().all(|drawn| drawn.mapping.is_gone()) {
            WAITING
        } else {
            mapping.map_or(FAINT, |mapping| colour(mapping.backing))
        };
        let mapped: u64 = cluster
            .mappings
            .iter()
            .map(|drawn| drawn.mapping.extent.len)
            .sum();
        let whole = mapped >= cluster.extent.len;
        taken.push(Piece {
            extent: cluster.extent,
            fill,
            word: if whole { "used" } else { "used within" },
            class: "used",
        });
    }
    for (windows, word) in [
        (&range.reserved, "for hints"),
        (&range.fixed, "driver's own"),
    ] {
        let apart = |window: &&Extent| !clusters.iter().any(|c| c.extent.overlaps(window));
        for window in windows.iter().filter(apart) {
            taken.push(Piece {
                extent: *window,
                fill: RESERVED,
                word,
                class: "window",
            });
        }
    }
    taken.sort_by_key(|piece| piece.extent.start);
    let mut pieces = Vec::new();
    let mut at = u128::from(range.extent.start.get());
    let gap = |from: u128, to: u128| {
        let (start, len) = (
            u64::try_from(from).ok()?,
            u64::try_from(to.checked_sub(from)?).ok()?,
        );
        let extent = Extent {
            start: mmu_core::DeviceAddr::new(start),
            len,
        };
        let free: u64 = range
            .free
            .iter()
            .filter(|free| free.overlaps(&extent))
            .map(|f| f.len)
            .sum();
        // Alignment and leaks keep addresses that nothing is mapped at.
        let (fill, word, class) = match free {
            0 => (RESERVED, "held", "held"),
            _ => (FREE, "free", "free"),
        };
        (len > 0).then_some(Piece {
            extent,
            fill,
            word,
            class,
        })
    };
    for piece in taken {
        pieces.extend(gap(at, u128::from(piece.extent.start.get())));
        at = at.max(piece.extent.end());
        pieces.push(piece);
    }
    pieces.extend(gap(at, range.extent.end()));
    pieces
}

fn by_logarithm(canvas: &mut Canvas, range: &RangeState, clusters: &[Cluster<'_, '_>]) {
    const HEIGHT: f64 = 22.0;
    const SIZE: f64 = 10.0;
    let pieces = pieces(range, clusters);
    let weight = |piece: &Piece| {
        let pages = piece.extent.len / range.page_bytes.max(1);
        1.0 + f64::from(pages.max(1).ilog2())
    };
    let whole: f64 = pieces.iter().map(weight).sum();
    let mut x = MARGIN;
    for piece in &pieces {
        let width = INNER * weight(piece) / whole;
        let area = Area::new(x, canvas.y, width, HEIGHT);
        let tip = format!(
            "{} {} +{}",
            piece.word,
            piece.extent.start,
            Bytes(piece.extent.len)
        );
        canvas.rect_of(area, piece.fill, piece.class, &tip);
        let dark = matches!(piece.fill, FREE | RESERVED | WAITING);
        let ink = if dark { INK } else { "#ffffff" };
        let full = format!("{} {}", piece.word, Bytes(piece.extent.len));
        let short = Bytes(piece.extent.len).to_string();
        let fits = |text: &&String| text_width(text, SIZE) + 6.0 <= width;
        if let Some(text) = [full, short].iter().find(fits) {
            let place = (x + width / 2.0, canvas.y + 14.5);
            canvas.text_at(place, SIZE, ink, Anchor::Middle, text);
        }
        canvas.frame(area, "#ffffff", 1.0);
        x += width;
    }
    canvas.frame(Area::new(MARGIN, canvas.y, INNER, HEIGHT), RULE, 1.0);
    canvas.y += HEIGHT + 11.0;
    let caption = "each piece as wide as the logarithm of its length";
    canvas.text_at((WIDTH - MARGIN, canvas.y), 9.5, FAINT, Anchor::End, caption);
    canvas.y += 6.0;
}
