//! The layout that an operator left, for each size of the terminal: a phone and a monitor want different
//! ones.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kept_file;

/// The file in the state folder.
const FILE: &str = "layouts.json";
/// Sizes that are kept at most.
const SIZES: usize = 32;
/// The largest file that is read.
const LARGEST: u64 = 64 * 1024;
/// How far the split between the columns moves at once, and how far it gets from its own place.
const STEP: i16 = 5;
const FURTHEST: i16 = 30;

/// What an operator changed about a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SavedLayout {
    /// The focused pane has the whole body.
    pub(crate) zoomed: bool,
    /// How far the split between the columns was moved, in percent of the width.
    pub(crate) split: i16,
}

impl SavedLayout {
    /// The same layout with its split moved by a step.
    pub(crate) fn moved(self, right: bool) -> Self {
        let step = if right { STEP } else { -STEP };
        Self { split: (self.split + step).clamp(-FURTHEST, FURTHEST), ..self }
    }
}

/// The layouts by size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SavedLayouts(BTreeMap<String, SavedLayout>);

fn key((width, height): (u16, u16)) -> String {
    format!("{width}x{height}")
}

impl SavedLayouts {
    /// Reads the layouts of a state folder. They are a convenience: none are there where the file can't be
    /// read.
    pub(crate) fn load(state: &Path) -> Self {
        let file = state.join(FILE);
        if std::fs::metadata(&file).map_or(0, |known| known.len()) > LARGEST {
            return Self::default();
        }
        let read = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut layouts: BTreeMap<String, SavedLayout> = read.unwrap_or_default();
        for layout in layouts.values_mut() {
            layout.split = layout.split.clamp(-FURTHEST, FURTHEST);
        }
        Self(layouts)
    }

    /// The layout of a size; the default where the operator changed nothing.
    pub(crate) fn of(&self, size: (u16, u16)) -> SavedLayout {
        self.0.get(&key(size)).copied().unwrap_or_default()
    }

    /// Notes the layout of a size.
    pub(crate) fn note(&mut self, size: (u16, u16), layout: SavedLayout) {
        self.put(key(size), layout);
    }

    fn put(&mut self, size: String, layout: SavedLayout) {
        if layout == SavedLayout::default() {
            self.0.remove(&size);
        } else if self.0.len() < SIZES || self.0.contains_key(&size) {
            self.0.insert(size, layout);
        }
    }

    /// Writes the layouts that have changed since they were `loaded` into those that a state folder has now.
    ///
    /// # Errors
    /// The folder can't be written.
    pub(crate) fn save(&self, loaded: &Self, state: &Path) -> io::Result<()> {
        if self == loaded {
            return Ok(());
        }
        let _lock = kept_file::lock(state)?;
        let mut kept = Self::load(state);
        for size in loaded.0.keys().chain(self.0.keys()) {
            let layout = self.0.get(size).copied().unwrap_or_default();
            if loaded.0.get(size).copied().unwrap_or_default() != layout {
                kept.put(size.clone(), layout);
            }
        }
        kept_file::replace(&state.join(FILE), &serde_json::to_vec_pretty(&kept.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_read_again_for_their_size_alone() {
        let state = tempfile::tempdir().unwrap();
        let mut layouts = SavedLayouts::load(state.path());
        let wide = SavedLayout { zoomed: false, split: 10 };
        layouts.note((200, 50), wide);
        layouts.note((80, 24), SavedLayout { zoomed: true, split: 0 });
        layouts.note((80, 24), SavedLayout::default());
        layouts.save(&SavedLayouts::default(), state.path()).unwrap();
        let read = SavedLayouts::load(state.path());
        assert_eq!(read, layouts);
        assert_eq!(read.of((200, 50)), wide);
        assert_eq!(read.of((80, 24)), SavedLayout::default());
        for broken in ["", "{", "{\"80x24\": 7}", "{\"80x24\": {\"split\": 30000}}"] {
            std::fs::write(state.path().join(FILE), broken).unwrap();
            assert!(SavedLayouts::load(state.path()).of((80, 24)).split <= FURTHEST, "{broken}");
        }
    }

    #[test]
    fn cockpit_writes_only_the_layouts_that_it_changed() {
        let state = tempfile::tempdir().unwrap();
        let (zoomed, split) =
            (SavedLayout { zoomed: true, split: 0 }, SavedLayout { zoomed: false, split: 5 });
        let mut first = SavedLayouts::default();
        first.note((80, 24), zoomed);
        first.save(&SavedLayouts::default(), state.path()).unwrap();
        let loaded = SavedLayouts::load(state.path());
        let (idle, mut one, mut other) = (loaded.clone(), loaded.clone(), loaded.clone());
        one.note((200, 50), split);
        one.save(&loaded, state.path()).unwrap();
        other.note((80, 24), SavedLayout::default());
        other.save(&loaded, state.path()).unwrap();
        idle.save(&loaded, state.path()).unwrap();
        let kept = SavedLayouts::load(state.path());
        assert_eq!((kept.of((80, 24)), kept.of((200, 50))), (SavedLayout::default(), split));
    }

    #[test]
    fn layouts_and_splits_are_bounded() {
        let mut layouts = SavedLayouts::default();
        let changed = SavedLayout { zoomed: true, split: 0 };
        for width in 0..100 {
            layouts.note((width, 24), changed);
        }
        assert_eq!(layouts.0.len(), SIZES);
        let left = (0..20).fold(changed, |layout, _| layout.moved(false));
        assert_eq!(left.split, -FURTHEST);
    }
}
