//! A list that grows without moving what is in it.

/// Items by number, in parts of one size: growing moves none of them, and memory never holds the list twice.
pub(crate) struct Parts<T>(Vec<Vec<T>>);

/// Items of a part.
const PART: usize = 4096;

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Parts(Vec::new())
    }
}

impl<T> Parts<T> {
    /// Items there are.
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PART + last.len())
    }

    /// Adds an item, and gives its number.
    pub(crate) fn push(&mut self, item: T) -> u32 {
        let number = self.len();
        match self.0.last_mut().filter(|last| last.len() < PART) {
            Some(last) => last.push(item),
            None => {
                let mut part = Vec::with_capacity(PART);
                part.push(item);
                self.0.push(part);
            }
        }
        number as u32
    }

    /// The item, if there is one of that number.
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.0.get(number / PART)?.get(number % PART)
    }
}

impl<T> std::ops::Index<usize> for Parts<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        &self.0[number / PART][number % PART]
    }
}

impl<T> std::ops::IndexMut<usize> for Parts<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.0[number / PART][number % PART]
    }
}
