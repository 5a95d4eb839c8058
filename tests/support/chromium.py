"""The browser of the tests: Chromium as it is installed, without what nobody looks at."""

from analytics.reports.browser import UNUSED_FEATURES

__all__ = ["ARGUMENTS"]

_WITHOUT = (
    "AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay", "MediaRouter",
    "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch", "TcpPortRandomizationWin",
    "ThirdPartyStoragePartitioning",
)  # fmt: skip
"""What Playwright leaves out; of two flags with features Chromium heeds the last."""

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    # Where there is no GPU, doing as if there were one takes a sixth more CPU.
    "--disable-gpu",
    f"--disable-features={','.join((*_WITHOUT, *UNUSED_FEATURES))}",
)
"""Its flags."""
