//! A table that fits: whole where there is room, shortened where there is little, and as blocks of
//! `title value` lines where a row does not fit at all.

use crate::screen::Facts;

const GAP: usize = 2;
/// A column that shrinks keeps this much, enough to tell its values apart.
const KEPT: usize = 12;

/// How a cell is meant; a word in it says the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As is.
    #[default]
    Plain,
    /// Look here.
    Warn,
    /// Act here.
    Bad,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// With a tone.
    pub fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { text: text.to_string(), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows under titles.
#[derive(Debug, Default)]
pub struct Table {
    titles: Vec<String>,
    shrinks: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Adds a column.
    pub fn column(mut self, title: impl ToString) -> Self {
        self.titles.push(title.to_string());
        self.shrinks.push(false);
        self
    }

    /// Adds a column of sentences, which may be cut short.
    pub fn sentences(mut self, title: impl ToString) -> Self {
        self = self.column(title);
        if let Some(last) = self.shrinks.last_mut() {
            *last = true;
        }
        self
    }

    /// Adds a row: one cell a column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.titles.len(), "one cell a column");
        self.rows.push(cells);
    }

    /// As text, each line ended.
    pub fn draw(&self, facts: &Facts) -> String {
        let mut widths: Vec<usize> = self.titles.iter().map(|t| length(t)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(length(&cell.text));
            }
        }
        let room = facts.width.unwrap_or(usize::MAX);
        if !self.fit(&mut widths, room) {
            return self.blocks(facts);
        }
        let mut text = String::new();
        let titles: Vec<Cell> = self.titles.iter().map(Cell::from).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            let mut pending = 0;
            for (cell, &width) in row.iter().zip(&widths) {
                line.extend(std::iter::repeat_n(' ', pending));
                let shown = shorten(&cell.text, width);
                pending = width - length(&shown) + GAP;
                line.push_str(&painted(&shown, cell.tone, facts));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Takes what is too much from the sentences, widest first; says whether that was enough.
    fn fit(&self, widths: &mut [usize], room: usize) -> bool {
        let gaps = GAP * widths.len().saturating_sub(1);
        loop {
            let total = widths.iter().sum::<usize>() + gaps;
            let Some(over) = total.checked_sub(room).filter(|over| *over > 0) else {
                return true;
            };
            let widest = (0..widths.len())
                .filter(|&i| self.shrinks[i] && widths[i] > KEPT)
                .max_by_key(|&i| widths[i]);
            let Some(i) = widest else { return false };
            widths[i] -= over.min(widths[i] - KEPT);
        }
    }

    fn blocks(&self, facts: &Facts) -> String {
        let title = self.titles.iter().map(|t| length(t)).max().unwrap_or(0);
        let mut text = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            for (name, cell) in self.titles.iter().zip(row).filter(|(_, c)| !c.text.is_empty()) {
                let pad = " ".repeat(title - length(name) + GAP);
                let shown = painted(&cell.text, cell.tone, facts);
                text.push_str(&format!("{name}{pad}{shown}\n"));
            }
        }
        text
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn shorten(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text in its tone's colour, where colour may be used.
pub fn painted(text: &str, tone: Tone, facts: &Facts) -> String {
    match (facts.colour, tone) {
        (true, Tone::Warn) => format!("\x1b[33m{text}\x1b[0m"),
        (true, Tone::Bad) => format!("\x1b[1;31m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}
