# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU can put on the main channel, each with and without us in the middle."""
from harness import case
from harness.compare import compare
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']


@case('e2e/main-channel/validate-uuid/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=2, k=3), dict(kind='link', n=0, k=0, full=True),
    dict(kind='link', n=3, k=2)])
def validate_uuid(t, kind, n, k):
    def body(way):
        for qemu in way.ends():
            qemu.capabilities(validate_uuid=True)
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k), body)
