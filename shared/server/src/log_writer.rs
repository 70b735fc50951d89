//! Writes log lines to standard error with few system calls.

use std::{
    io::{self, BufWriter, Write},
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The size of the buffer, in bytes.
const BUFFER_SIZE: usize = 64 * 1024;
/// The longest time that a line stays in the buffer.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The buffer of standard error. A process has one.
static STANDARD_ERROR: LazyLock<LogWriter<io::Stderr>> = LazyLock::new(|| LogWriter::start(io::stderr()));

/// Returns the buffer of standard error.
pub(crate) fn standard_error() -> LogWriter<io::Stderr> {
    STANDARD_ERROR.clone()
}

/// A buffer of log lines. A thread writes them 100 milliseconds later at the latest. A line of the level WARN or ERROR is written at once,
/// together with the lines before it.
#[derive(Debug)]
pub(crate) struct LogWriter<W: Write + Send + 'static>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W: Write> {
    buffer: Mutex<BufWriter<W>>,
    /// Signals that the buffer is no longer empty.
    filled: Condvar,
}

impl<W: Write + Send + 'static> LogWriter<W> {
    /// Starts the thread that writes.
    pub(crate) fn start(target: W) -> Self {
        let shared =
            Arc::new(Shared { buffer: Mutex::new(BufWriter::with_capacity(BUFFER_SIZE, target)), filled: Condvar::new() });
        let weak = Arc::downgrade(&shared);
        let flush = move || {
            while let Some(shared) = weak.upgrade() {
                let mut buffer = shared.buffer.lock();
                if buffer.buffer().is_empty() {
                    shared.filled.wait(&mut buffer);
                }
                drop(buffer);
                #[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
                thread::sleep(FLUSH_INTERVAL);
                // A line that cannot be written is lost, as there is no other place for it.
                let _ = shared.buffer.lock().flush();
            }
        };
        // Without the thread, lines wait until the buffer is full or a warning follows.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(flush);
        Self(shared)
    }

    /// Writes what is in the buffer.
    pub(crate) fn flush(&self) {
        let _ = self.0.buffer.lock().flush();
    }
}

impl<W: Write + Send + 'static> Clone for LogWriter<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<'a, W: Write + Send + 'static> MakeWriter<'a> for LogWriter<W> {
    type Writer = LineWriter<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { shared: &self.0, is_urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter { shared: &self.0, is_urgent: *metadata.level() <= Level::WARN }
    }
}

/// Writes one line.
#[derive(Debug)]
pub(crate) struct LineWriter<'a, W: Write> {
    shared: &'a Shared<W>,
    is_urgent: bool,
}

impl<W: Write> Write for LineWriter<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.shared.buffer.lock();
        let was_empty = buffer.buffer().is_empty();
        buffer.write_all(line)?;
        if self.is_urgent {
            buffer.flush()?;
        } else if was_empty {
            self.shared.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.buffer.lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::util::SubscriberInitExt;

    use super::*;

    /// Sends each piece that is written.
    struct Pieces(mpsc::Sender<String>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).expect("text");
            self.0.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn messages(piece: &str) -> Vec<&str> {
        piece.lines().filter_map(|line| line.rsplit(' ').next()).collect()
    }

    #[test]
    fn lines_are_written_together_and_warnings_at_once() {
        let (sender, pieces) = mpsc::channel();
        let writer = LogWriter::start(Pieces(sender));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer.clone()).finish();
        let _guard = subscriber.set_default();
        tracing::info!("one");
        tracing::info!("two");
        tracing::warn!("three");
        let written = pieces.try_recv().expect("a piece that the warning has written");
        assert_eq!(messages(&written), ["one", "two", "three"]);
        tracing::info!("four");
        assert!(pieces.try_recv().is_err());
        writer.flush();
        assert_eq!(messages(&pieces.try_recv().expect("a piece")), ["four"]);
        // The thread writes a line that nothing follows.
        tracing::info!("five");
        assert_eq!(messages(&pieces.recv().expect("a piece")), ["five"]);
    }
}
