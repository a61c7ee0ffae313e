//! Kraken's book checksum: CRC32 (IEEE) over the digits of the ten best levels of each side.
//!
//! Asks low to high, then bids high to low; of each level the price and then the quantity, at the
//! pair's declared precision, without the point and without leading zeros. Those are the decimal
//! digits of our fixed-point integer, which is why the scale has to be the declared one: a number
//! printed without its trailing zeros gives another sum (0 of 510 recorded frames agree).

use crate::ingest::book::Book;
use crate::ingest::model::Level;

/// How many levels of each side the sum covers, whatever the depth.
const LEVELS: usize = 10;

/// v2, and v1 too where the book was read at the pair's precision.
pub fn book_checksum(book: &Book) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for Level { price, qty } in book.asks().take(LEVELS).chain(book.bids().take(LEVELS)) {
        write_digits(&mut sum, price);
        write_digits(&mut sum, qty);
    }
    sum.finalize()
}

/// v1 from the wire text itself, as (price, volume) pairs, best first on each side.
pub fn text_checksum<'a>(
    asks: impl IntoIterator<Item = (&'a str, &'a str)>,
    bids: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for (price, volume) in asks.into_iter().take(LEVELS).chain(bids.into_iter().take(LEVELS)) {
        for text in [price, volume] {
            let mut leading = true;
            for digit in text.bytes().filter(u8::is_ascii_digit) {
                leading &= digit == b'0';
                if !leading {
                    sum.update(&[digit]);
                }
            }
        }
    }
    sum.finalize()
}

/// The digits of a number without sign and leading zeros; nothing at all for zero.
fn write_digits(sum: &mut crc32fast::Hasher, number: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    sum.update(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(write: impl Fn(&mut crc32fast::Hasher)) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        write(&mut sum);
        sum.finalize()
    }

    #[test]
    fn digits_carry_neither_sign_nor_leading_zeros() {
        assert_eq!(sum_of(|s| write_digits(s, 5_100)), crc32fast::hash(b"5100"));
        assert_eq!(sum_of(|s| write_digits(s, 0)), crc32fast::hash(b""));
        assert_eq!(sum_of(|s| write_digits(s, i64::MAX)), crc32fast::hash(b"9223372036854775807"));
    }

    #[test]
    fn text_and_numbers_agree() {
        let mut book = Book::new(10);
        book.restart(&[Level { price: 5_000, qty: 500 }], &[Level { price: 5_005, qty: 500 }]);
        let text = text_checksum([("0.05005", "0.00000500")], [("0.05000", "0.00000500")]);
        assert_eq!(book_checksum(&book), text);
        assert_eq!(text, crc32fast::hash(b"50055005000500"));
    }

    #[test]
    fn only_ten_levels_of_a_side_count() {
        let levels: Vec<Level> = (1..=12).map(|n| Level { price: n, qty: n }).collect();
        let mut deep = Book::new(1000);
        deep.restart(&[], &levels);
        let mut shallow = Book::new(10);
        shallow.restart(&[], &levels);
        assert_eq!(book_checksum(&deep), book_checksum(&shallow));
    }
}
