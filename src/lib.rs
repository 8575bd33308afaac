//! iSCSI multipath bonds, declared on Kubernetes.
