//! The terminal: taken, drawn on, and given back however the program ends.

use std::{
    io::{self, Write},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossterm::{
    cursor,
    event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    queue,
    style::{Attribute, Print, SetAttribute},
    terminal::{
        self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use tokio::sync::mpsc;

use super::{draw, look::Seen};

/// How often the reader of keys looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// What somebody at the terminal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Redraw,
    /// Nobody is there any more.
    Gone,
}

/// The terminal, as long as this lives.
pub(super) struct Screen {
    keys: mpsc::Receiver<Key>,
    wanted: Arc<AtomicBool>,
}

/// Whether the terminal has to be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        restore_on_panic();
        terminal::enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let (sender, keys) = mpsc::channel(16);
        let wanted = Arc::new(AtomicBool::new(true));
        let screen = Self {
            keys,
            wanted: Arc::clone(&wanted),
        };
        let mut out = io::stdout();
        queue!(out, EnterAlternateScreen, cursor::Hide, DisableLineWrap)?;
        out.flush()?;
        std::thread::spawn(move || read_keys(&sender, &wanted));
        Ok(screen)
    }

    pub(super) fn draw(&mut self, seen: &Seen) -> io::Result<()> {
        // Some terminals say that they have no size.
        let (width, height) = match terminal::size() {
            Ok((width, height)) if width > 0 && height > 0 => (width, height),
            _ => (80, 24),
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let lines = draw::draw(seen, width.into(), height.into());
        for (row, line) in (0..height).zip(&lines) {
            let attribute = match line.style {
                draw::Style::Plain => Attribute::Reset,
                draw::Style::Head => Attribute::Bold,
                draw::Style::Faint => Attribute::Dim,
            };
            queue!(
                out,
                cursor::MoveTo(0, row),
                SetAttribute(attribute),
                Print(&line.text),
                SetAttribute(Attribute::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        if lines.len() < usize::from(height) {
            queue!(out, Clear(ClearType::FromCursorDown))?;
        }
        out.flush()
    }

    /// The next key that means something.
    pub(super) async fn key(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::Gone)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::SeqCst);
        restore();
    }
}

/// Gives the terminal back, once.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        // There is nothing to be done where the terminal is gone.
        let _ = queue!(out, EnableLineWrap, cursor::Show, LeaveAlternateScreen);
        let _ = out.flush();
        let _ = terminal::disable_raw_mode();
    }
}

/// What a panic says has to be said on the terminal as it was.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}

fn read_keys(keys: &mpsc::Sender<Key>, wanted: &AtomicBool) {
    while wanted.load(Ordering::SeqCst) {
        let key = match event::poll(LOOK).and_then(|any| any.then(event::read).transpose()) {
            Ok(None) => continue,
            Ok(Some(event)) => match meaning(&event) {
                Some(key) => key,
                None => continue,
            },
            Err(_) => Key::Gone,
        };
        if keys.blocking_send(key).is_err() || key == Key::Gone {
            return;
        }
    }
}

fn meaning(event: &Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Key::Quit),
            // Raw, it is a key like others.
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(Key::Quit)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_that_end_it() {
        let key = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Some(Key::Quit));
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Key::Quit)
        );
        assert_eq!(key(KeyCode::Char('c'), none), None);
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Key::Redraw));
    }
}
