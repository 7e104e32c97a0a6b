use std::collections::BTreeMap;

use hl_harness::inspect::{Event, SampleOptions, Stage, State, sample};
use hl_harness::scenario::words::AsicWord;
use mmu_core::DeviceAddr;
use svg::node::Attributes;
use svg::node::element::tag::Type;
use svg::parser;

use crate::rig::PARTS;

const ALARM: &str = "#d7263d";

pub(crate) fn sample_of(asic: AsicWord, mappings: u32) -> State {
    sample(SampleOptions {
        asic,
        mappings,
        seed: 1,
    })
    .unwrap()
}

/// A text of a picture with the room that it takes.
#[derive(Clone, Debug)]
struct Words {
    text: String,
    fill: String,
    left: f64,
    right: f64,
    base: f64,
    size: f64,
}

/// A rectangle of a picture.
#[derive(Clone, Debug)]
struct Shape {
    class: String,
    fill: String,
    tip: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// A picture, read back.
#[derive(Debug)]
struct Picture {
    width: f64,
    height: f64,
    words: Vec<Words>,
    shapes: Vec<Shape>,
}

fn number(attributes: &Attributes, name: &str) -> f64 {
    attributes
        .get(name)
        .map_or(0.0, |value| value.parse().unwrap())
}

fn string(attributes: &Attributes, name: &str) -> String {
    attributes
        .get(name)
        .map(|value| value.to_string())
        .unwrap_or_default()
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Reads a picture back, and checks that it keeps to its paper and that no words lie on others.
fn read(name: &str, picture: &str) -> Picture {
    // For whoever wants to look at what the tests saw.
    let kept = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(kept, picture).unwrap();
    let mut read = Picture {
        width: 0.0,
        height: 0.0,
        words: Vec::new(),
        shapes: Vec::new(),
    };
    let mut inside = "";
    for event in svg::read(picture).unwrap() {
        match event {
            parser::Event::Tag("svg", _, attributes) if attributes.contains_key("width") => {
                read.width = number(&attributes, "width");
                read.height = number(&attributes, "height");
            }
            parser::Event::Tag("rect", kind, attributes) if kind != Type::End => {
                read.shapes.push(Shape {
                    class: string(&attributes, "class"),
                    fill: string(&attributes, "fill"),
                    tip: String::new(),
                    x: number(&attributes, "x"),
                    y: number(&attributes, "y"),
                    width: number(&attributes, "width"),
                    height: number(&attributes, "height"),
                });
            }
            parser::Event::Tag("text", Type::Start, attributes) => {
                inside = "text";
                read.words.push(Words {
                    text: string(&attributes, "text-anchor"),
                    fill: string(&attributes, "fill"),
                    left: number(&attributes, "x"),
                    right: 0.0,
                    base: number(&attributes, "y"),
                    size: number(&attributes, "font-size"),
                });
            }
            parser::Event::Tag("title", Type::Start, _) => inside = "title",
            parser::Event::Tag(..) => inside = "",
            parser::Event::Text(text) if inside == "text" => {
                let words = read.words.last_mut().unwrap();
                let text = unescaped(text);
                let width = text.chars().count() as f64 * words.size * 0.602;
                let shift = match words.text.as_str() {
                    "end" => width,
                    "middle" => width / 2.0,
                    _ => 0.0,
                };
                words.left -= shift;
                words.right = words.left + width;
                words.text = text;
            }
            parser::Event::Text(text) if inside == "title" => {
                read.shapes.last_mut().unwrap().tip = unescaped(text);
            }
            parser::Event::Error(error) => panic!("{name}: {error}"),
            _ => {}
        }
    }
    read.check(name);
    read
}

impl Picture {
    fn check(&self, name: &str) {
        for shape in &self.shapes {
            let inside = shape.x >= 0.0
                && shape.y >= 0.0
                && shape.x + shape.width <= self.width + 0.1
                && shape.y + shape.height <= self.height + 0.1;
            assert!(inside, "{name}: {shape:?}");
        }
        let mut words: Vec<&Words> = self.words.iter().collect();
        words.sort_by(|a, b| a.base.total_cmp(&b.base));
        for (at, one) in words.iter().enumerate() {
            let inside = one.left >= 0.0 && one.right <= self.width && one.base <= self.height;
            assert!(inside, "{name}: {one:?}");
            assert!(one.size >= 9.0, "{name}: too small to be read: {one:?}");
            for other in &words[at + 1..] {
                // From the foot of one line to the top of the next.
                if other.base - other.size * 0.75 >= one.base + one.size * 0.1 {
                    if other.base > one.base + 40.0 {
                        break;
                    }
                    continue;
                }
                let apart = one.right <= other.left || other.right <= one.left;
                assert!(apart, "{name}: {one:?} lies on {other:?}");
            }
        }
    }

    fn of_class(&self, class: &str) -> Vec<&Shape> {
        let of = |shape: &&Shape| shape.class.split(' ').any(|word| word == class);
        self.shapes.iter().filter(of).collect()
    }

    fn says(&self, text: &str) -> bool {
        self.words.iter().any(|words| words.text.contains(text))
    }

    /// The letters of the moments in a lane, from left to right.
    fn letters_beside(&self, lane: &Words) -> String {
        let beside = |words: &&Words| (words.base - lane.base).abs() < 2.0 && words.text.len() == 1;
        let mut letters: Vec<&Words> = self.words.iter().filter(beside).collect();
        letters.sort_by(|a, b| a.left.total_cmp(&b.left));
        letters.iter().map(|words| words.text.as_str()).collect()
    }

    fn alarming(&self) -> Vec<&Words> {
        self.words
            .iter()
            .filter(|words| words.fill == ALARM)
            .collect()
    }
}

/// `1 leaf of 4 KiB` or `1 024 leaves of 4 KiB`: how many, of what.
fn leaves(tip: &str) -> (u64, String) {
    let (number, rest) = tip.split_once(" lea").unwrap();
    let (_, size) = rest.split_once(" of ").unwrap();
    (number.replace(' ', "").parse().unwrap(), size.to_owned())
}

#[test]
fn the_map_of_few_mappings_has_each_of_them_with_all_its_leaves() {
    for asic in PARTS {
        let state = sample_of(asic, 12);
        let picture = read(&format!("map-{asic}-12.svg"), &state.map());
        let mut mappings = picture.of_class("mapping");
        mappings.sort_by(|a, b| a.tip.cmp(&b.tip));
        let live = state.spaces.iter().flat_map(|space| &space.mappings);
        assert_eq!(mappings.len(), live.clone().count(), "{asic}");
        for mapping in live {
            let at = mapping.extent.start.to_string();
            assert!(
                mappings.iter().any(|shape| shape.tip.contains(&at)),
                "{asic} {at}"
            );
            assert!(picture.says(&at), "{asic} {at}");
        }
        // Leaves in the picture are those of the tables, as the dump counts them.
        let mut drawn: BTreeMap<String, u64> = BTreeMap::new();
        for shape in picture.of_class("leaves") {
            let (number, size) = leaves(&shape.tip);
            *drawn.entry(size).or_default() += number;
        }
        let mut counted: BTreeMap<u64, u64> = BTreeMap::new();
        for tree in state.dump(None, false).trees {
            for (size, number) in tree.totals.leaves {
                *counted.entry(size).or_default() += number;
            }
        }
        assert_eq!(
            drawn.values().sum::<u64>(),
            counted.values().sum::<u64>(),
            "{asic}"
        );
        assert_eq!(drawn["4 KiB"], counted[&4096], "{asic}");
        assert!(picture.says("tables and driver agree"));
        assert_eq!(picture.of_class("quarantined").len(), 1, "{asic}");
        assert!(
            picture.alarming().is_empty(),
            "{asic}: {:?}",
            picture.alarming()
        );
    }
}

#[test]
fn the_map_of_ten_thousand_mappings_and_their_timeline_can_be_read() {
    let state = sample_of(AsicWord::Gaudi2, 10_000);
    let map = state.map();
    let picture = read("map-gaudi2-10000.svg", &map);
    let live = state.space(1).unwrap().mappings.len();
    assert!(live > 7_000);
    let heading = format!(
        "asid 1, user of asid 1: {} {:03} mappings",
        live / 1000,
        live % 1000
    );
    assert!(picture.says(&heading), "{heading}");
    // A reader has a few thousand cells at most before him, and a file that opens at once.
    let cells = picture.of_class("cell").len();
    assert!((500..6_000).contains(&cells), "{cells}");
    assert!(map.len() < 2 << 20 && picture.height < 4_000.0);

    let timeline = state.timeline();
    let picture = read("timeline-gaudi2-10000.svg", &timeline);
    assert!(
        timeline.len() < 4 << 20 && picture.height < 2_000.0,
        "{}",
        timeline.len()
    );
    assert!(picture.says("nothing was released before the device had forgotten it"));
    assert!(picture.says("all 10 003 mappings"));
    assert!(picture.alarming().is_empty(), "{:?}", picture.alarming());

    // One mapping of ten thousand that is released too early is not folded away.
    let planted = released_early(&state);
    let history = planted.history();
    let offended: Vec<_> = history
        .lives
        .iter()
        .filter(|life| life.stage() == Stage::Offended)
        .collect();
    assert_eq!(offended.len(), 1);
    let picture = read("timeline-gaudi2-10000-offended.svg", &planted.timeline());
    let start = offended[0].extent.start.to_string();
    let told = picture.alarming();
    assert!(
        told.iter().any(|words| words.text.contains(&start)),
        "{told:?}"
    );
    let lane = picture
        .words
        .iter()
        .find(|words| words.text == format!("asid 1 {start}"));
    assert_eq!(picture.letters_beside(lane.unwrap()), "MURI");
    assert!(
        told.iter()
            .any(|words| words.text == "RELEASED BEFORE INVALIDATED"),
        "{told:?}"
    );
}

/// The state with the last pin taken off before the invalidation that should have come first.
fn released_early(state: &State) -> State {
    let mut state = state.clone();
    let unpin =
        |record: &hl_harness::inspect::Record| matches!(record.event, Event::Unpin { left: 0, .. });
    let at = state.events.iter().rposition(unpin).unwrap();
    let record = state.events.remove(at);
    let stored =
        |record: &hl_harness::inspect::Record| matches!(record.event, Event::EntryStore { .. });
    let store = state.events[..at].iter().rposition(stored).unwrap();
    state.events.insert(store + 1, record);
    for (sequence, record) in (0..).zip(&mut state.events) {
        record.sequence = sequence;
    }
    state
}

#[test]
fn a_leaf_that_leads_elsewhere_is_drawn_in_an_alarming_colour() {
    for asic in PARTS {
        let mut state = sample_of(asic, 12);
        let mapping = &state.space(1).unwrap().mappings;
        let small = mapping
            .iter()
            .find(|mapping| !mapping.quarantined && mapping.extent.len < 1 << 20);
        let at = small.unwrap().extent.start;
        let step = state.walk(1, at, None).unwrap().hops.last().unwrap().step;
        for table in &mut state.tables {
            if table.address == step.table {
                table.entries.get_mut(&step.index).unwrap().0 ^= 0x1000;
                // And one where nothing is mapped.
                table.entries.insert(511, hl_harness::inspect::Word(0x5801));
            }
        }
        let picture = read(&format!("map-{asic}-wrong.svg"), &state.map());
        assert!(picture.says("TABLES AND DRIVER DIFFER"), "{asic}");
        let told: Vec<&str> = picture
            .alarming()
            .into_iter()
            .map(|words| words.text.as_str())
            .collect();
        assert!(told.contains(&"1 LEAF WRONG"), "{asic} {told:?}");
        assert!(
            told.iter().any(|text| text.contains("WITHOUT A MAPPING")),
            "{asic} {told:?}"
        );
    }
}

#[test]
fn the_timeline_of_few_mappings_shows_the_order_of_each() {
    for asic in PARTS {
        let state = sample_of(asic, 24);
        let history = state.history();
        let picture = read(&format!("timeline-{asic}-24.svg"), &state.timeline());
        let mut ordered = 0;
        for life in &history.lives {
            let name = format!("asid {} {}", life.asid, life.extent.start);
            let lanes: Vec<&Words> = picture
                .words
                .iter()
                .filter(|words| words.text == name)
                .collect();
            assert!(!lanes.is_empty(), "{asic} {name}");
            for lane in lanes {
                let word = picture.letters_beside(lane);
                assert!(
                    ["M", "MU", "MUI", "MUIR"].contains(&word.as_str()),
                    "{asic} {name} {word}"
                );
                ordered += usize::from(word == "MUIR");
            }
        }
        assert!(ordered >= 3, "{asic}: {ordered}");
        assert!(
            picture.alarming().is_empty(),
            "{asic}: {:?}",
            picture.alarming()
        );

        let planted = released_early(&state);
        let picture = read(
            &format!("timeline-{asic}-offended.svg"),
            &planted.timeline(),
        );
        let told = picture.alarming();
        assert!(
            told.iter()
                .any(|words| words.text == "RELEASED BEFORE INVALIDATED"),
            "{asic} {told:?}"
        );
        let red = picture
            .of_class("life")
            .into_iter()
            .filter(|shape| shape.fill == ALARM);
        assert_eq!(red.count(), 1, "{asic}");
    }
}

#[test]
fn a_state_without_mappings_and_events_is_drawn_too() {
    for asic in PARTS {
        let mut state = sample_of(asic, 1);
        state.events.clear();
        state.tables.clear();
        for space in &mut state.spaces {
            space.mappings.clear();
        }
        read(&format!("map-{asic}-empty.svg"), &state.map());
        let picture = read(&format!("timeline-{asic}-empty.svg"), &state.timeline());
        assert!(picture.says("0 events"));
        let walk = state.walk(1, DeviceAddr::new(u64::MAX), None).unwrap();
        assert!(walk.outcome.is_err());
    }
}
