//! The sites and goals of a Plausible, taken over as they are there.
//!
//! The process that looks does it, and the others follow. A site that is gone there goes here too; what was configured for it here goes
//! with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::goal::Goal;
use bellwether_domain::id::SiteId;
use bellwether_domain::site::Site;
use bellwether_store::StoreError;
use tracing::{error, info, warn};

use super::Plausible;
use crate::Engine;
use crate::manage::ManageError;
use crate::registry::ActiveSite;
use crate::workers::Workers;

const INTERVAL: Duration = Duration::from_secs(5);
/// For how long nobody is served meanwhile, when the process begins.
const FIRST_TIME_LIMIT: Duration = Duration::from_secs(10);

/// What is known from one time to the next.
#[derive(Default)]
pub(crate) struct Mirror {
    /// Sites that cannot be taken over, since one that was made here has their domain.
    refused: HashSet<SiteId>,
    /// Whether it was said that there are no sites.
    is_empty: bool,
    /// Whether it was said that nothing can be taken over.
    is_failing: bool,
}

/// Why sites and goals could not be taken over. Some may have been.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// They cannot be read.
    #[error("Plausible's sites cannot be read: {0}")]
    Source(#[source] StoreError),
    /// They cannot be kept.
    #[error(transparent)]
    Store(#[from] ManageError),
}

impl Engine {
    /// Takes over what is in Plausible before anybody is served, where no other process does: whoever comes first finds the sites.
    /// What does not come in time comes later.
    pub(crate) async fn mirror_at_first(&self) {
        if self.plausible().is_none() || !self.roles().detect {
            return;
        }
        let mirroring = async {
            match self.begins_to_look().await.map_err(ManageError::from) {
                Ok(true) => self.mirror().await,
                Ok(false) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        match tokio::time::timeout(FIRST_TIME_LIMIT, mirroring).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "sites and goals cannot be taken over yet"),
            Err(_) => warn!("there are many sites in Plausible: they are taken over while others are served already"),
        }
    }

    /// Follows what changes in Plausible, where that is the source.
    pub(crate) fn start_mirroring(&self, workers: &Workers) {
        if self.plausible().is_none() {
            return;
        }
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        let mirroring = async move {
            loop {
                if engine.looks().await {
                    let _ = engine.mirror().await;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        };
        workers.spawn("mirror", async move {
            shutdown.run_until_cancelled(mirroring).await;
        });
    }

    /// Takes over the sites and goals of Plausible, where that is the source, and says it once when it fails, and when it works again.
    pub async fn mirror(&self) -> Result<(), MirrorError> {
        let Some(plausible) = self.plausible() else {
            return Ok(());
        };
        let mut mirror = self.inner.mirror.lock().await;
        let taken = self.follow_plausible(plausible, &mut mirror).await;
        match (&taken, std::mem::replace(&mut mirror.is_failing, taken.is_err())) {
            (Err(error), false) => error!(%error, "sites and goals are as they were"),
            (Ok(()), true) => info!("sites and goals follow Plausible again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        taken
    }

    async fn follow_plausible(&self, plausible: &Plausible, mirror: &mut Mirror) -> Result<(), MirrorError> {
        let listed = listed(plausible).await.map_err(MirrorError::Source)?;
        let before = self.mirrored();
        // Whoever empties the whole table has other plans than to lose every webhook.
        if listed.is_empty() && !before.is_empty() {
            if !std::mem::replace(&mut mirror.is_empty, true) {
                warn!("there are no sites in Plausible any more: those that were there stay here");
            }
            return Ok(());
        }
        mirror.is_empty = false;
        for id in before.keys().filter(|id| !listed.contains_key(id)) {
            info!(site = %id, "the site is gone from Plausible, and from here");
            self.remove_site(*id).await?;
        }
        for (id, (site, goals)) in listed {
            if before.get(&id).is_none_or(|before| !is_the_same(before, &site, &goals)) {
                self.take_in(site, goals, mirror).await?;
            }
        }
        Ok(())
    }

    async fn take_in(&self, site: Site, goals: Vec<Goal>, mirror: &mut Mirror) -> Result<(), ManageError> {
        let (id, domain) = (site.id, site.domain.clone());
        match self.mirror_site(site, goals).await {
            Ok(()) => {
                mirror.refused.remove(&id);
                info!(site = %domain, "the site is as in Plausible now");
                Ok(())
            }
            Err(ManageError::Store(StoreError::Exists)) => {
                if mirror.refused.insert(id) {
                    warn!(site = %domain, "the site cannot be taken over from Plausible: one with its domain was made here");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The sites that were taken over.
    fn mirrored(&self) -> HashMap<SiteId, Arc<ActiveSite>> {
        let sites = self.inner.registry.all().into_iter().filter(|site| site.site.plausible_id.is_some());
        sites.map(|site| (site.site.id, site)).collect()
    }
}

async fn listed(plausible: &Plausible) -> Result<HashMap<SiteId, (Site, Vec<Goal>)>, StoreError> {
    let listed = plausible.tables.listed().await?;
    Ok(listed.iter().map(|listed| (listed.site(), listed.goals())).map(|(site, goals)| (site.id, (site, goals))).collect())
}

fn is_the_same(before: &ActiveSite, site: &Site, goals: &[Goal]) -> bool {
    let named = |site: &Site| (site.domain.clone(), site.name.clone(), site.timezone.clone());
    named(&before.site) == named(site) && *before.goals == *goals
}
