//! Draws ratatui's frames into memory, as the bytes that a terminal needs.
//!
//! The session draws on a [`Screen`], takes the bytes and sends them over the wire. The backend
//! hides and moves the cursor only when that changes, so a frame without a change has no bytes.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Rect, Size};
use ratatui::{Terminal, TerminalOptions, Viewport};

/// The bytes of a frame, shared between the backend and the screen.
#[derive(Debug, Clone, Default)]
struct FrameBuffer(Rc<RefCell<Vec<u8>>>);

impl Write for FrameBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A ratatui backend that writes into memory.
#[derive(Debug)]
pub struct MemoryBackend {
    inner: CrosstermBackend<FrameBuffer>,
    size: Size,
    /// Whether the terminal hides its cursor; `None` where the terminal's state is unknown.
    hidden: Option<bool>,
    /// The cursor's position; `None` where drawing has moved it.
    cursor: Option<Position>,
}

/// A terminal of a given size that draws into memory.
#[derive(Debug)]
pub struct Screen {
    /// ratatui's terminal; draw frames with it.
    pub terminal: Terminal<MemoryBackend>,
    bytes: FrameBuffer,
}

impl Screen {
    /// A screen of a size, in cells.
    ///
    /// # Errors
    /// None in practice: writes to memory don't fail.
    pub fn new(width: u16, height: u16) -> io::Result<Self> {
        let bytes = FrameBuffer::default();
        let inner = CrosstermBackend::new(bytes.clone());
        let size = Size { width, height };
        let backend = MemoryBackend { inner, size, hidden: None, cursor: None };
        let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        Ok(Self { terminal, bytes })
    }

    /// Changes the size; the next frame is drawn whole.
    ///
    /// # Errors
    /// None in practice: writes to memory don't fail.
    pub fn resize(&mut self, width: u16, height: u16) -> io::Result<()> {
        self.terminal.backend_mut().size = Size { width, height };
        self.terminal.resize(Rect::new(0, 0, width, height))
    }

    /// Clears the screen, so that the next frame is drawn whole.
    ///
    /// # Errors
    /// None in practice: writes to memory don't fail.
    pub fn redraw(&mut self) -> io::Result<()> {
        self.terminal.backend_mut().hidden = None;
        self.terminal.clear()
    }

    /// Takes the bytes that were drawn since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.0.borrow_mut())
    }
}

impl Backend for MemoryBackend {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        // crossterm's backend resets the colours after each frame, even after one without cells.
        let mut content = content.peekable();
        if content.peek().is_none() {
            return Ok(());
        }
        self.cursor = None;
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        if self.hidden != Some(true) {
            self.hidden = Some(true);
            self.inner.hide_cursor()?;
        }
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        if self.hidden != Some(false) {
            self.hidden = Some(false);
            self.inner.show_cursor()?;
        }
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor.unwrap_or_default())
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let position = position.into();
        if self.cursor != Some(position) {
            self.cursor = Some(position);
            self.inner.set_cursor_position(position)?;
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::emulator::Emulator;
    use super::super::emulator::tests::rows;
    use super::*;
    use ratatui::widgets::Paragraph;

    #[test]
    fn screen_draws_no_bytes_without_a_change() {
        let mut screen = Screen::new(20, 3).unwrap();
        let mut draw = |text: &'static str| {
            screen
                .terminal
                .draw(|frame| frame.render_widget(Paragraph::new(text), frame.area()))
                .unwrap();
            screen.take()
        };
        assert!(!draw("one").is_empty());
        assert_eq!(draw("one"), b"");
        let changed = draw("two");
        assert!(!changed.is_empty() && changed.len() < 40, "{changed:?}");
    }

    /// A terminal that receives the frames' bytes shows the last frame, whatever it showed before.
    #[test]
    fn screen_replaces_any_cells_by_wide_characters() {
        const SIZE: (u16, u16) = (12, 4);
        let (area, mut seed) = (Rect::new(0, 0, SIZE.0, SIZE.1), 1_u32);
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        let mut screen = Screen::new(SIZE.0, SIZE.1).unwrap();
        let (mut inner, mut outer) = (Emulator::new(SIZE), Emulator::new(SIZE));
        for step in 0..20_000 {
            let (column, row) = (1 + random(u32::from(SIZE.0)), 1 + random(u32::from(SIZE.1)));
            let text = match random(8) {
                0 => "\u{1b}[2J",
                1 => "\u{1b}[K",
                2 => "\u{1b}[31m日\u{1b}[m",
                3 => "日本",
                4 => "e\u{301}",
                5 => "\r\n",
                6 => "ab",
                _ => " ",
            };
            inner.feed(format!("\u{1b}[{row};{column}H{text}").as_bytes());
            if random(3) > 0 {
                continue;
            }
            let drawn =
                screen.terminal.draw(|frame| inner.paint(frame.buffer_mut(), area, true, None));
            drawn.unwrap();
            outer.feed(&screen.take());
            assert_eq!(rows(&outer), rows(&inner), "step {step}");
        }
    }
}
