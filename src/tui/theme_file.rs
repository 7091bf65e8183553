//! Reads the operator's theme file again when it changes, so that colours can be tried while one looks.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::mpsc;

use super::fetch::Fetched;
use super::theme::Theme;

/// Changes within this time are taken over together.
const SETTLE: Duration = Duration::from_millis(50);

/// Sends the theme of a file after each change of it, until the receiver is gone. Does nothing for a
/// shipped theme.
pub(super) fn follow(theme: &Theme, results: mpsc::Sender<Fetched>) {
    let Some(file) = theme.file() else { return };
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = match watch(file, changed) {
        Ok(watcher) => watcher,
        Err(error) => {
            let text = format!("{} can't be watched for changes: {error}", file.display());
            // A full queue shows other news first; a theme can still be chosen.
            let _ = results.try_send(Fetched::Refusal(text));
            return;
        }
    };
    let theme = theme.clone();
    tokio::spawn(async move {
        // Dropping it ends the watch.
        let _watcher = watcher;
        loop {
            tokio::select! {
                change = changes.recv() => if change.is_none() { return },
                () = results.closed() => return,
            }
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
            let read = theme.again().map(Box::new).map_err(|error| error.to_string());
            if results.send(Fetched::Theme(read)).await.is_err() {
                return;
            }
        }
    });
}

fn watch(file: &Path, changed: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    // Editors replace the file, so its folder is watched.
    let name = file.file_name().map(OsStr::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |event: &notify::Event| {
            !event.kind.is_access() && event.paths.iter().any(|p| p.file_name() == name.as_deref())
        };
        if event.is_ok_and(|event| ours(&event)) {
            // A full queue already holds a change.
            let _ = changed.try_send(());
        }
    })?;
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use ratatui::style::Color;

    use super::*;
    use crate::tui::colour::ColourDepth;

    #[tokio::test]
    async fn changed_file_sends_its_theme_and_a_broken_one_its_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let text = include_str!("../../assets/themes/dark.toml");
        std::fs::write(&file, text).unwrap();
        let theme = Theme::load(file.to_str().unwrap(), false, true).unwrap();
        let (results, mut fetched) = mpsc::channel(4);
        follow(&theme.at_depth(ColourDepth::True), results);
        let mut next = async || {
            let limit = Duration::from_secs(20);
            match tokio::time::timeout(limit, fetched.recv()).await.unwrap().unwrap() {
                Fetched::Theme(read) => read,
                _ => panic!("no theme came"),
            }
        };
        // As editors do it: a new file takes the name.
        let new = folder.path().join("new");
        std::fs::write(&new, text.replace("#14171c", "#102030")).unwrap();
        std::fs::rename(&new, &file).unwrap();
        assert_eq!(next().await.unwrap().ground().1, Color::Rgb(0x10, 0x20, 0x30));
        std::fs::write(&file, "ground = 7").unwrap();
        while next().await.is_ok() {}
    }
}
