//! Counts the sessions that live, together and by the network of the peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Refused;
use crate::transport::Network;

/// How many may be in a [`Census`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub(crate) all: u32,
    pub(crate) per_network: u32,
}

/// What is counted. It has an entry for a network only while a session of it lives, so it is no larger than they are many.
#[derive(Debug, Default)]
pub(crate) struct Census(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_network: HashMap<Network, u32>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Network,
}

impl Full {
    /// How a request is refused, by who has no place.
    pub(crate) fn or(self, all: Refused) -> Refused {
        match self {
            Self::All => all,
            Self::Network => Refused::PeerFull,
        }
    }
}

impl Census {
    /// Counts one more for as long as the place lives.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr, most: Most) -> Result<Place, Full> {
        let network = Network::from(peer);
        let counts = &mut *self.counts();
        if counts.all >= most.all {
            return Err(Full::All);
        }
        let there = counts.by_network.get(&network).copied().unwrap_or(0);
        if there >= most.per_network {
            return Err(Full::Network);
        }
        counts.by_network.insert(network, there + 1);
        counts.all += 1;
        Ok(Place {
            census: self.clone(),
            network,
        })
    }

    /// How many there are.
    pub(crate) fn all(&self) -> u32 {
        self.counts().all
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is counted.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    network: Network,
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &mut *self.census.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(there) = counts.by_network.get_mut(&self.network) {
            *there = there.saturating_sub(1);
            if *there == 0 {
                counts.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const MOST: Most = Most {
        all: 4,
        per_network: 2,
    };

    #[test]
    fn who_leaves_makes_room_and_leaves_nothing_behind() {
        let census = Arc::new(Census::default());
        let enter = |text| census.enter(address(text), MOST);
        let mut places = vec![enter("10.0.0.1").unwrap(), enter("10.0.0.1").unwrap()];
        assert_eq!(enter("10.0.0.1").unwrap_err(), Full::Network);
        places.push(enter("10.0.0.2").unwrap());
        places.push(enter("::1").unwrap());
        assert_eq!(enter("10.0.0.3").unwrap_err(), Full::All);
        places.remove(0);
        places.push(enter("10.0.0.1").unwrap());
        places.clear();
        assert_eq!(census.all(), 0);
        assert!(census.counts().by_network.is_empty());
    }
}
