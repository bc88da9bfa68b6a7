"""A bare pygame window for render_mode="human"; playing is `worldflow play`."""

import numpy as np
from numpy.typing import NDArray

from worldflow.errors import InputError

WINDOW_HEIGHT = 512  # pixels, about


class Viewer:
    """Shows frames at a steady rate; the window opens with the first one.

    Args:
        title: of the window.
        frame_rate: frames per second, kept by waiting in `show`.
    """

    def __init__(self, title: str, frame_rate: int) -> None:
        import pygame  # late: an env without a window needs none of it

        self.pygame = pygame
        self.title = title
        self.frame_rate = frame_rate
        self.clock = pygame.time.Clock()

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Show `frame` `(H, W, 3)`, each pixel a square of whole pixels.

        Raises:
            InputError: this machine has no display.
        """
        pygame = self.pygame
        height, width, _ = frame.shape
        scale = max(1, WINDOW_HEIGHT // height)
        window = pygame.display.get_surface()
        if window is None:  # the first frame, or another env's close() took the display away
            pygame.display.init()
            try:
                window = pygame.display.set_mode((width * scale, height * scale))
            except pygame.error as error:
                raise InputError(
                    f"render_mode='human': no window can be opened ({error}): "
                    "use render_mode='rgb_array'"
                ) from None
            pygame.display.set_caption(self.title)
        pygame.event.pump()
        picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        window.blit(pygame.transform.scale(picture, window.get_size()), (0, 0))
        pygame.display.flip()
        self.clock.tick(self.frame_rate)

    def close(self) -> None:
        """Close the window."""
        self.pygame.display.quit()
