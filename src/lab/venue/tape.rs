//! A recording of book frames, played in a loop instead of the generated book.
//!
//! One JSON object a line, `{"recv_ns": …, "frame": …}`, the frame as text or as an object.
//! Numbers that lost their trailing zeros on the way are read at the pair's precision. A recording
//! is replayed in full when it is loaded: one that does not verify would make every subscriber
//! resubscribe for ever, so it is refused, naming the line.

use super::book::{Book, Level, Window, checksum};
use super::pair::{PAIRS, Pair, by_symbol, parse_fixed};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Depths Kraken's book channel offers.
pub const DEPTHS: [usize; 5] = [10, 25, 100, 500, 1_000];

/// Waited between the last frame and the first of the next round.
const ROUND_GAP_NS: u64 = 500_000_000;
/// A pause in the recording is shortened to this.
const PAUSE_NS_MAX: u64 = 5_000_000_000;

/// One pair's frames.
#[derive(Debug)]
pub struct Tape {
    pub depth: usize,
    frames: Vec<Frame>,
    next: usize,
}

#[derive(Debug)]
struct Frame {
    after_ns: u64,
    snapshot: bool,
    levels: Window,
}

/// What a step did to the book.
pub enum Played {
    /// The recorded changes, in their recorded order.
    Changes(Window),
    /// The book was replaced.
    Replaced,
}

impl Tape {
    /// Time until the next frame is due.
    pub fn pause_ns(&self) -> u64 {
        self.frames[self.next].after_ns
    }

    pub fn step(&mut self, book: &mut Book) -> Played {
        let frame = &self.frames[self.next];
        self.next = (self.next + 1) % self.frames.len();
        if frame.snapshot {
            *book = Book::default();
            book.apply(&frame.levels);
            return Played::Replaced;
        }
        book.apply(&frame.levels);
        book.cut(self.depth);
        Played::Changes(frame.levels.clone())
    }

    /// Middle of the first snapshot, in ticks: generated trades happen near the recorded book.
    pub fn mid(&self) -> i64 {
        let first = &self.frames[0].levels;
        match (first.bids.first(), first.asks.first()) {
            (Some((bid, _)), Some((ask, _))) => (bid + ask) / 2,
            (Some((price, _)), None) | (None, Some((price, _))) => *price,
            (None, None) => 0,
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    recv_ns: u64,
    #[serde(borrow)]
    frame: &'a RawValue,
}

#[derive(Deserialize)]
struct WireFrame<'a> {
    channel: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireBook<'a> {
    symbol: String,
    #[serde(borrow, default)]
    bids: Vec<WireLevel<'a>>,
    #[serde(borrow, default)]
    asks: Vec<WireLevel<'a>>,
    checksum: Option<u32>,
}

#[derive(Deserialize)]
struct WireLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

/// Line number, from 1, and what is wrong with it.
pub type BadLine = (usize, String);

/// Reads a recording: for each pair its tape, if it has frames of it.
pub fn load(text: &str) -> Result<Vec<Option<Tape>>, BadLine> {
    let mut readers: Vec<Reader> = PAIRS.iter().map(Reader::new).collect();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        read_line(line, &mut readers).map_err(|reason| (index + 1, reason))?;
    }
    let tapes: Vec<_> = readers.into_iter().map(Reader::finish).collect();
    if tapes.iter().all(Option::is_none) {
        let known: Vec<_> = PAIRS.iter().map(|pair| pair.symbol).collect();
        return Err((1, format!("no book frame of {} in the whole file", known.join(" or "))));
    }
    Ok(tapes)
}

fn read_line(line: &str, readers: &mut [Reader]) -> Result<(), String> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| format!("not {{\"recv_ns\":…,\"frame\":…}}: {error}"))?;
    let unquoted: String;
    let frame = if line.frame.get().starts_with('"') {
        unquoted = serde_json::from_str(line.frame.get()).map_err(|error| error.to_string())?;
        unquoted.as_str()
    } else {
        line.frame.get()
    };
    let frame: WireFrame =
        serde_json::from_str(frame).map_err(|error| format!("frame is not an object: {error}"))?;
    let (Some("book"), Some(data)) = (frame.channel.as_deref(), frame.data) else { return Ok(()) };
    let snapshot = frame.kind.as_deref() == Some("snapshot");
    let books: Vec<WireBook> = serde_json::from_str(data.get())
        .map_err(|error| format!("book data is not as Kraken sends it: {error}"))?;
    for book in &books {
        let Some(pair) = by_symbol(&book.symbol) else { continue };
        readers[pair].read(line.recv_ns, snapshot, book)?;
    }
    Ok(())
}

struct Reader {
    pair: &'static Pair,
    depth: usize,
    book: Book,
    last_ns: Option<u64>,
    frames: Vec<Frame>,
}

impl Reader {
    fn new(pair: &'static Pair) -> Self {
        Self { pair, depth: 0, book: Book::default(), last_ns: None, frames: Vec::new() }
    }

    fn read(&mut self, recv_ns: u64, snapshot: bool, book: &WireBook) -> Result<(), String> {
        if self.frames.is_empty() && !snapshot {
            return Err(format!("{} begins with an update; it must be a snapshot", book.symbol));
        }
        let levels = Window { bids: self.levels(&book.bids)?, asks: self.levels(&book.asks)? };
        if snapshot {
            let size = levels.bids.len().max(levels.asks.len());
            let depth = DEPTHS.into_iter().find(|depth| *depth >= size);
            let depth = depth.ok_or_else(|| format!("a snapshot of {size} levels"))?;
            if self.depth != 0 && depth != self.depth {
                return Err(format!("depth changes from {} to {depth}", self.depth));
            }
            self.depth = depth;
            self.book = Book::default();
        }
        self.book.apply(&levels);
        self.book.cut(self.depth);
        let found = checksum(&self.book.window(10));
        if let Some(sent) = book.checksum.filter(|sent| *sent != found) {
            return Err(format!("checksum {sent} is sent, {found} is found: a frame is missing"));
        }
        let since = recv_ns.saturating_sub(self.last_ns.unwrap_or(recv_ns));
        let after_ns = if self.frames.is_empty() { ROUND_GAP_NS } else { since.min(PAUSE_NS_MAX) };
        self.last_ns = Some(recv_ns);
        self.frames.push(Frame { after_ns, snapshot, levels });
        Ok(())
    }

    fn levels(&self, levels: &[WireLevel]) -> Result<Vec<Level>, String> {
        levels.iter().map(|level| self.level(level)).collect()
    }

    fn level(&self, level: &WireLevel) -> Result<Level, String> {
        let number = |raw: &RawValue, decimals| {
            parse_fixed(raw.get(), decimals)
                .ok_or_else(|| format!("{} does not fit {decimals} decimals", raw.get()))
        };
        Ok((
            number(level.price, self.pair.price_decimals)?,
            number(level.qty, self.pair.qty_decimals)?,
        ))
    }

    fn finish(self) -> Option<Tape> {
        (!self.frames.is_empty()).then_some(Tape {
            depth: self.depth,
            frames: self.frames,
            next: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = r#"{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":100.0,"qty":1.0}],"asks":[{"price":100.5,"qty":2.00000000}]}]}"#;

    #[test]
    fn frames_are_read_as_text_or_object_and_play_in_a_loop() {
        let update = r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":100.1,"qty":5e-05}],"asks":[]}]}"#;
        let text = format!(
            "{{\"recv_ns\":10,\"frame\":{SNAPSHOT}}}\n\n{{\"recv_ns\":40,\"frame\":{}}}\n",
            serde_json::Value::from(update)
        );
        let mut tapes = load(&text).unwrap();
        assert!(tapes[1].is_none());
        let tape = tapes[0].as_mut().unwrap();
        assert_eq!((tape.depth, tape.mid()), (10, 1_002));
        let mut book = Book::default();
        for _ in 0..2 {
            assert!(matches!(tape.step(&mut book), Played::Replaced));
            assert_eq!(tape.pause_ns(), 30);
            assert!(matches!(tape.step(&mut book), Played::Changes(_)));
            assert_eq!(book.window(10).bids, [(1_001, 5_000), (1_000, 100_000_000)]);
        }
    }

    #[test]
    fn a_recording_with_a_hole_is_refused_by_line() {
        let torn = SNAPSHOT.replace("\"asks\"", "\"checksum\":1,\"asks\"");
        let text =
            format!("{{\"recv_ns\":1,\"frame\":{SNAPSHOT}}}\n{{\"recv_ns\":2,\"frame\":{torn}}}");
        let (line, reason) = load(&text).unwrap_err();
        assert_eq!(line, 2);
        assert!(reason.starts_with("checksum 1 is sent"), "{reason}");
        assert_eq!(load("").unwrap_err().0, 1);
    }
}
