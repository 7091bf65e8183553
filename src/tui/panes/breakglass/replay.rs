//! Playing a recorded shell: timing, pauses, speed and jumps.

use std::time::{Duration, Instant};

use crate::breakglass::recording::{Asciicast, RecordedEvent};
use crate::term::emulator::Emulator;
use crate::tui::motion::Motion;

/// Milliseconds that a longer pause in a recording is cut to.
const PAUSE: u64 = 2_000;
/// The largest factor of the original speed.
const FASTEST: u32 = 64;
/// Milliseconds of a jump by one motion.
const STEP: u64 = 5_000;
/// Milliseconds of a jump by one page.
const PAGE: u64 = 6 * STEP;

/// A recording while it is played.
#[derive(Debug)]
pub(super) struct Replay {
    played: Asciicast,
    next: usize,
    /// Milliseconds from the beginning.
    pub(super) position: u64,
    /// The factor of the original speed.
    pub(super) speed: u32,
    pub(super) playing: bool,
    since: Option<Instant>,
}

impl Replay {
    pub(super) const fn new(played: Asciicast) -> Self {
        Self { played, next: 0, position: 0, speed: 1, playing: true, since: None }
    }

    /// The length in milliseconds.
    pub(super) fn length(&self) -> u64 {
        self.played.events.last().map_or(0, |(at, _)| *at)
    }

    /// When the next step is to be drawn; none while the recording is paused.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let (at, _) = self.played.events.get(self.next).filter(|_| self.playing)?;
        let wait = at.saturating_sub(self.position).min(PAUSE) / u64::from(self.speed);
        Some(self.since.unwrap_or(now) + Duration::from_millis(wait))
    }

    /// Plays up to the position that is due now.
    pub(super) fn advance(&mut self, now: Instant, emulator: &mut Emulator) {
        if !self.playing {
            return;
        }
        let passed = now.saturating_duration_since(self.since.unwrap_or(now));
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        self.since = Some(now);
        let mut to = self.position.saturating_add(passed.saturating_mul(u64::from(self.speed)));
        if let Some((at, _)) = self.played.events.get(self.next)
            && at.saturating_sub(self.position) > PAUSE
            && to + PAUSE >= *at - (at - self.position - PAUSE)
        {
            // A long pause is cut short.
            to = to.max(self.position) + (at - self.position - PAUSE);
        }
        self.show(to, emulator);
        self.playing = self.next < self.played.events.len();
    }

    /// Pauses or resumes; at the end, starts over.
    pub(super) fn pause(&mut self, now: Instant, emulator: &mut Emulator) {
        if self.next >= self.played.events.len() {
            self.seek(0, emulator);
        }
        self.playing = !self.playing || self.next == 0;
        self.since = self.playing.then_some(now);
    }

    /// Doubles the speed, up to the fastest.
    pub(super) fn faster(&mut self) {
        self.speed = (self.speed * 2).min(FASTEST);
    }

    /// Halves the speed, down to the original one.
    pub(super) fn slower(&mut self) {
        self.speed = (self.speed / 2).max(1);
    }

    /// Jumps by a motion: some seconds, some more, or to an end.
    pub(super) fn go(&mut self, motion: Motion, emulator: &mut Emulator) {
        let to = match motion {
            Motion::Next => self.position.saturating_add(STEP),
            Motion::Previous => self.position.saturating_sub(STEP),
            Motion::PageDown => self.position.saturating_add(PAGE),
            Motion::PageUp => self.position.saturating_sub(PAGE),
            Motion::Top => 0,
            Motion::Bottom => u64::MAX,
        };
        self.seek(to, emulator);
    }

    /// Jumps to a position in milliseconds.
    pub(super) fn seek(&mut self, to: u64, emulator: &mut Emulator) {
        if to < self.position || self.next == 0 {
            *emulator = Emulator::new(self.played.size);
            (self.next, self.position) = (0, 0);
        }
        self.show(to.min(self.length()), emulator);
    }

    fn show(&mut self, to: u64, emulator: &mut Emulator) {
        while let Some((at, step)) = self.played.events.get(self.next) {
            if *at > to {
                break;
            }
            match step {
                // Nobody waits for the emulator's answers to a recording.
                RecordedEvent::Output(bytes) => drop(emulator.feed(bytes)),
                RecordedEvent::Resize(columns, rows) => drop(emulator.resize((*columns, *rows))),
            }
            self.next += 1;
        }
        self.position = to.min(self.length());
    }
}
