//! What users are told of the device, as one list for each of all that happened.

use std::collections::VecDeque;

/// What there is to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// An access was stopped at this address.
    Fault(u64),
    /// The device is lost.
    Lost,
    /// It works again.
    Recovered,
}

/// What a user hears next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// An event, by its number.
    Event(u64, Told),
    /// From a number on so many that there was no room for.
    Missed(u64, u64),
}

/// What a user has not heard: everything that happened, with whether it can still be told.
#[derive(Clone, Debug, Default)]
pub struct Events {
    unheard: VecDeque<(Told, bool)>,
    /// The number of the first of them.
    first: u64,
    /// He was told last that the device is lost.
    knows_lost: bool,
}

impl Events {
    /// Something happened. There is room for so many faults, and for the first and the last of each other
    /// kind. Returns whether he had heard everything.
    pub fn post(&mut self, what: Told, room: usize) -> bool {
        let idle = self.unheard.is_empty();
        let is_fault = |told: &Told| matches!(told, Told::Fault(_));
        let kept = match is_fault(&what) {
            true => {
                let faults = self.unheard.iter();
                faults
                    .filter(|(told, kept)| is_fault(told) && *kept)
                    .count()
                    < room
            }
            false => {
                let like = self.unheard.iter_mut();
                let mut like = like.filter(|(told, kept)| *told == what && *kept).skip(1);
                if let Some((_, kept)) = like.next() {
                    *kept = false;
                }
                true
            }
        };
        self.unheard.push_back((what, kept));
        idle
    }

    /// The device works, or does not: he is told where he does not know. Returns whether he is, and had heard
    /// everything.
    pub fn tell(&mut self, works: bool, room: usize) -> bool {
        let news = self.knows_lost == works;
        self.knows_lost = !works;
        let what = if works { Told::Recovered } else { Told::Lost };
        news && self.post(what, room)
    }

    /// What he hears next.
    #[must_use]
    pub fn next(&self) -> Option<Heard> {
        let missed = self.unheard.iter().take_while(|(_, kept)| !kept).count() as u64;
        let (told, _) = self.unheard.front()?;
        Some(match missed {
            0 => Heard::Event(self.first, *told),
            count => Heard::Missed(self.first, count),
        })
    }

    /// He has heard that.
    pub fn hear(&mut self, heard: Heard) {
        let count = match heard {
            Heard::Event(..) => 1,
            Heard::Missed(_, count) => count,
        };
        self.unheard.drain(..count as usize);
        self.first += count;
    }
}
