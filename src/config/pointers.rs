//! JSON Pointers as one tree, which is walked along with a text: what that costs depends on the text, not on how many
//! pointers there are.

use std::sync::Arc;

/// The places in a JSON text that JSON Pointers (RFC 6901) name. Cheap to clone: requests share it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PointerTree(Arc<Branch>);

/// The pointers that lead to one place, or below it.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Branch {
    is_end: bool,
    /// By reference token, spelt as the canonical form spells a string, and in the order of that spelling.
    members: Vec<(Vec<u8>, Branch)>,
    /// Those of the members whose token is an array index: the index, and their place in `members`. In ascending order.
    elements: Vec<(usize, usize)>,
}

impl PointerTree {
    /// The tree of these pointers, each given as its unescaped reference tokens.
    #[must_use]
    pub fn new(pointers: &[Vec<String>]) -> Self {
        let mut root = Branch::default();
        pointers.iter().for_each(|pointer| root.insert(pointer));
        root.find_elements();
        Self(Arc::new(root))
    }

    /// The branch of the whole text.
    #[must_use]
    pub fn root(&self) -> &Branch {
        &self.0
    }
}

impl Branch {
    /// Whether a pointer ends here.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.is_end
    }

    /// The branch of a member of this object; `name` is spelt as in the canonical form, quotes included.
    #[must_use]
    pub fn member(&self, name: &[u8]) -> Option<&Self> {
        let compare = |(other, _): &(Vec<u8>, Self)| {
            #[cfg(test)]
            tests::COMPARED.set(tests::COMPARED.get() + 1);
            other.as_slice().cmp(name)
        };
        let place = self.members.binary_search_by(compare).ok()?;
        self.members.get(place).map(|(_, branch)| branch)
    }

    /// The branches of elements of this array, by their index, in ascending order.
    pub fn elements(&self) -> impl Iterator<Item = (usize, &Self)> {
        let branch = |place: usize| self.members.get(place).map(|(_, branch)| branch);
        self.elements.iter().filter_map(move |(index, place)| Some((*index, branch(*place)?)))
    }

    fn insert(&mut self, pointer: &[String]) {
        let Some((token, rest)) = pointer.split_first() else {
            self.is_end = true;
            return;
        };
        let name = serde_json::to_vec(token).unwrap_or_default();
        match self.members.binary_search_by(|(other, _)| other.cmp(&name)) {
            Ok(place) => {
                if let Some((_, branch)) = self.members.get_mut(place) {
                    branch.insert(rest);
                }
            }
            Err(place) => {
                let mut branch = Self::default();
                branch.insert(rest);
                self.members.insert(place, (name, branch));
            }
        }
    }

    fn find_elements(&mut self) {
        for (place, (name, branch)) in self.members.iter_mut().enumerate() {
            branch.find_elements();
            self.elements.extend(array_index(name).map(|index| (index, place)));
        }
        self.elements.sort_unstable();
    }
}

/// The array index that a token in quotes is (RFC 6901, section 4): digits, without leading zeros.
fn array_index(name: &[u8]) -> Option<usize> {
    let digits = name.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_index = digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'));
    str::from_utf8(digits).ok().filter(|_| is_index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::request::canonicalize;

    thread_local! {
        /// How often a name was compared with a token.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn a_text_is_compared_with_all_pointers_in_one_pass() {
        let pointers: Vec<Vec<String>> =
            (0..64).map(|start| (0..32).map(|step| (start * 7 + step).to_string()).collect()).collect();
        let tree = PointerTree::new(&pointers);
        let compared = |text: &str| {
            COMPARED.set(0);
            assert!(canonicalize(text.as_bytes(), &tree).is_some());
            COMPARED.get()
        };
        let names = |depth: &str| (0..10_000).map(|name| format!("\"{name}\":{depth}")).collect::<Vec<_>>().join(",");
        // Elements go by their numbers, in step with the pointers.
        assert_eq!(compared(&format!("[{}1]", "1,".repeat(10_000))), 0);
        // As often as halvings find one of 64; one pass for each pointer would be 640,000.
        assert!(compared(&format!("{{{}}}", names("1"))) <= 10_000 * 7);
        // Within places to which no pointer leads, there is nothing to compare.
        assert!(compared(&format!("[[{{{}}}]]", names("{\"1\":2}"))) <= 10_000 * 7);
        assert!(compared(&format!("{{\"x\":{{{}}}}}", names("1"))) <= 7);
    }

    fn tree(pointers: &[&[&str]]) -> PointerTree {
        let owned = |pointer: &&[&str]| pointer.iter().map(|token| (*token).to_owned()).collect();
        PointerTree::new(&pointers.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn pointers_with_a_common_beginning_share_it() {
        let tree = tree(&[&["a", "c"], &["a", "b"], &["a", "b", "c"], &["d/e\"\u{e9}\n"]]);
        let a = tree.root().member(b"\"a\"").unwrap();
        assert!(!tree.root().is_end() && !a.is_end());
        assert!(a.member(b"\"b\"").unwrap().is_end() && a.member(b"\"c\"").unwrap().is_end());
        assert!(a.member(b"\"d\"").is_none() && a.member(b"a").is_none());
        assert!(tree.root().member("\"d/e\\\"\u{e9}\\n\"".as_bytes()).unwrap().is_end());
    }

    #[test]
    fn elements_come_in_the_order_of_their_numbers() {
        let tree = tree(&[&["10"], &["9", "x"], &["0"], &["01"], &["+1"], &["-"], &[""], &["99999999999999999999999"]]);
        let found: Vec<_> = tree.root().elements().map(|(index, branch)| (index, branch.is_end())).collect();
        assert_eq!(found, [(0, true), (9, false), (10, true)]);
    }

    #[test]
    fn the_order_of_pointers_does_not_matter() {
        assert_eq!(tree(&[&["a"], &["b", "1"], &["b", "0"]]), tree(&[&["b", "0"], &["b", "1"], &["a"], &["a"]]));
        assert_eq!(tree(&[]), PointerTree::default());
        assert!(tree(&[&[]]).root().is_end());
    }
}
